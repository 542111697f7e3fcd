/* SPDX-License-Identifier: MIT */
/* Modules: finds, checks and loads shared objects, and keeps what they have registered. Loading is a transaction: what a
 * module claims becomes live when its load has returned 0. The calls that modules make are in modapi.c. */

#define HASH_NONFATAL_OOM 1
#include "core/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uthash.h>

#include "core/ask.h"
#include "core/clock.h"
#include "core/crash.h"
#include "core/job.h"
#include "core/log.h"
#include "core/modapi.h"
#include "core/pending.h"
#include "core/sasl.h"
#include "core/server.h"
#include "core/transport.h"

#include <startalkd/service.h>

#define SLOW_CALL 0.050 /* seconds */
#define KEY_MAX   512   /* bytes of element, type and xmlns together */

struct registry_table {
	UT_hash_handle hh;
	struct handler *handler;
	char key[];
};

/* ---- calls ---- */

/* Seconds that were put on some module's account. A call's own time is what has passed without having been put on
 * another one's meanwhile: so it starts and ends by a clock that stands still in the calls inside of it. */
static double accounted;

static double read_clock(void)
{
	return clock_now() - accounted;
}

double module_enter(const struct stk_module *module, const char *what)
{
	crash_enter(module->name, what);
	return read_clock();
}

void module_leave(struct stk_module *module, const char *what, double entered)
{
	double took = read_clock() - entered;
	crash_leave();
	accounted += took;
	module->figures.calls++;
	module->figures.seconds += took;
	if (took > SLOW_CALL) {
		module->figures.slow_calls++;
		module_log(module, LOG_WARNING, "%s kept the router for %.0f ms; work that takes long belongs into a job", what,
		           took * 1000);
	}
}

/* ---- lines about modules ---- */

bool module_logs(const struct stk_module *module, int level)
{
	int own = atomic_load_explicit(&module->log_level, memory_order_relaxed);
	return own < 0 ? log_enabled(level) : level <= own;
}

void module_log(const struct stk_module *module, int level, const char *fmt, ...)
{
	char text[1024], line[1200];
	va_list args;
	if (!module_logs(module, level)) {
		return;
	}
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	snprintf(line, sizeof(line), "module: %.100s: %s", module->name, text);
	log_put(level, line);
}

void module_set_log(struct stk_module *module, const struct settings *settings)
{
	int said = settings_find_log(settings->log.modules, module->name);
	int given = settings_find_log(module->server->log_modules, module->name);
	atomic_store(&module->log_level, given < 0 ? said : given);
}

/* ---- registry ---- */

static char *put_part(char *at, const char *end, const char *text)
{
	size_t len = strlen(text);
	if (!at || len >= (size_t)(end - at)) {
		return NULL;
	}
	memcpy(at, text, len);
	at[len] = '\n';
	return at + len + 1;
}

/* Returns the key's length; 0: there is no room for it, and so no such handler either. */
static size_t make_key(char *out, int element, const char *type, const char *xmlns, const char *domain)
{
	const char *end = out + KEY_MAX;
	*out = (char)('0' + element);
	char *at = put_part(out + 1, end, type ? type : "\n"); /* which no type is */
	at = put_part(at, end, xmlns ? xmlns : "\n");
	at = put_part(at, end, domain ? domain : "");
	return at ? (size_t)(at - out) : 0;
}

static struct handler *lookup(const struct module_registry *registry, int element, const char *type, const char *xmlns,
                              const char *domain)
{
	char key[KEY_MAX];
	struct registry_table *entry = NULL;
	size_t len = make_key(key, element, type, xmlns, domain);
	if (len) {
		HASH_FIND(hh, registry->handlers, key, len, entry);
	}
	return entry ? entry->handler : NULL;
}

static struct handler *lookup_best(const struct module_registry *registry, const struct stk_stanza *stanza, const char *domain)
{
	int element = (int)stk_stanza_element(stanza);
	const char *type = stk_stanza_type(stanza), *xmlns = stk_stanza_xmlns(stanza);
	struct handler *handler = NULL;
	if (type && xmlns) {
		handler = lookup(registry, element, type, xmlns, domain);
	}
	if (!handler && xmlns) {
		handler = lookup(registry, element, NULL, xmlns, domain);
	}
	if (!handler && type) {
		handler = lookup(registry, element, type, NULL, domain);
	}
	return handler ? handler : lookup(registry, element, NULL, NULL, domain);
}

const char *module_find_domain(const struct server *server, const char *folded)
{
	const struct served *served = server->modules.domains;
	while (served && (served->module->state != MODULE_LIVE || strcmp(served->name, folded) != 0)) {
		served = served->next;
	}
	return served ? served->name : NULL;
}

/* In a domain that a module serves nothing acts that was not made for it. */
const struct handler *module_find_handler(const struct server *server, const struct stk_stanza *stanza, const char *domain)
{
	const struct module_registry *registry = &server->modules;
	struct handler *handler = domain && registry->narrow ? lookup_best(registry, stanza, domain) : NULL;
	if (handler || (domain && registry->domains && module_find_domain(server, domain))) {
		return handler;
	}
	return lookup_best(registry, stanza, NULL);
}

bool module_has_user(struct server *server, const char *bare)
{
	struct stk_module *self = NULL;
	struct provided *provided = server->modules.provided;
	while (provided && (provided->module->state != MODULE_LIVE || strcmp(provided->name, "users") != 0)) {
		provided = provided->next;
	}
	if (!provided || provided->major != 1) {
		return true;
	}
	self = provided->module;
	double entered = module_enter(self, "users");
	bool exists = ((const struct stk_users *)provided->table)->exists(self, bare);
	module_leave(self, "users", entered);
	return exists;
}

const struct mech *module_find_mech(const struct server *server, const char *name)
{
	struct mech *mech = server->modules.mechs;
	while (mech && (strcmp(mech->name, name) != 0 || mech->module->state != MODULE_LIVE)) {
		mech = mech->next;
	}
	return mech;
}

/* What gets on disk while the server stops is told to modules that have stopped acting, so that they can keep track of it. */
static bool is_told(const struct stk_module *module, enum stk_hook hook)
{
	return module->state == MODULE_LIVE || (hook == STK_STORED && module->state == MODULE_CLOSING && module->loaded);
}

int module_run_hooks(struct server *server, const struct stk_event *event)
{
	for (struct hook *hook = server->modules.hooks[event->hook]; hook; hook = hook->next) {
		if (!is_told(hook->module, event->hook)) {
			continue;
		}
		double entered = module_enter(hook->module, "hook");
		int verdict = hook->fn(hook->module, event, hook->arg);
		module_leave(hook->module, "hook", entered);
		if (verdict != STK_PASS && event->stanza && event->hook != STK_STORED) {
			hook->module->figures.stanzas++;
			return verdict;
		}
	}
	return STK_PASS;
}

void module_audit(struct server *server, const struct stk_audit *entry)
{
	struct stk_event event = { .size = sizeof(event), .hook = STK_AUDIT, .audit = entry };
	module_run_hooks(server, &event);
}

void stk_audit(struct stk_module *module, const struct stk_audit *entry)
{
	module_audit(module->server, entry);
}

const char *module_element_name(int element)
{
	static const char *const names[] = { "?", "iq", "message", "presence" };
	return names[element >= STK_IQ && element <= STK_PRESENCE ? element : 0];
}

const char *module_hook_name(int kind)
{
	static const char *const names[STK_HOOKS] = {
		"session-bound", "session-available", "session-closed", "stanza-in", "stanza-out", "route", "sent", "delivered",
		"session-eligible", "session-opened", "undelivered", "stored", "audit", "reopen",
	};
	return names[kind];
}

/* Makes what MODULE claimed in load() live; a claim that somebody else has already is an error that names both. */
static int publish(struct module_registry *registry, struct stk_module *module)
{
	for (struct handler *handler = module->handlers; handler; handler = handler->next) {
		char key[KEY_MAX];
		struct handler *other = lookup(registry, (int)handler->element, handler->type, handler->xmlns, handler->domain);
		if (other) {
			log_write(LOG_ERR, "module: %s: %s type %s xmlns %s%s%s belongs to module %s already; disable one of them",
			          module->name, module_element_name((int)handler->element), handler->type ? handler->type : "*",
			          handler->xmlns ? handler->xmlns : "*", handler->domain ? " in " : "", handler->domain ? handler->domain : "",
			          other->module->name);
			return -EEXIST;
		}
		size_t len = make_key(key, (int)handler->element, handler->type, handler->xmlns, handler->domain);
		struct registry_table *entry = calloc(1, sizeof(*entry) + len);
		if (!entry) {
			return -ENOMEM;
		}
		memcpy(entry->key, key, len);
		entry->handler = handler;
		HASH_ADD_KEYPTR(hh, registry->handlers, entry->key, len, entry);
		if (!entry->hh.tbl) {
			free(entry);
			return -ENOMEM;
		}
		registry->narrow += handler->domain != NULL;
	}
	return 0;
}

static void unpublish(struct module_registry *registry, const struct stk_module *module)
{
	struct registry_table *entry, *next;
	HASH_ITER (hh, registry->handlers, entry, next) {
		if (entry->handler->module == module) {
			HASH_DEL(registry->handlers, entry);
			registry->narrow -= entry->handler->domain != NULL;
			free(entry);
		}
	}
}

static void withdraw_domains(struct module_registry *registry, const struct stk_module *module)
{
	struct served **at = &registry->domains;
	while (*at) {
		struct served *served = *at;
		if (served->module == module) {
			*at = served->next;
			free(served);
		} else {
			at = &served->next;
		}
	}
}

static void withdraw(struct module_registry *registry, struct stk_module *module)
{
	unpublish(registry, module);
	while (module->handlers) {
		struct handler *handler = module->handlers;
		module->handlers = handler->next;
		free(handler->type);
		free(handler->xmlns);
		free(handler->domain);
		free(handler);
	}
	for (int kind = 0; kind < STK_HOOKS; kind++) {
		struct hook **at = &registry->hooks[kind];
		while (*at) {
			struct hook *hook = *at;
			if (hook->module == module) {
				*at = hook->next;
				free(hook);
			} else {
				at = &hook->next;
			}
		}
	}
	service_withdraw(module);
	withdraw_domains(registry, module);
	struct mech **at = &registry->mechs;
	while (*at) {
		struct mech *mech = *at;
		if (mech->module == module) {
			*at = mech->next;
			free(mech->name);
			free(mech);
		} else {
			at = &mech->next;
		}
	}
}

/* ---- opening ---- */

/* In the build tree modules lie beside the program, as modules/NAME/NAME.so. */
bool module_find_file(const struct settings *settings, const char *name, char *out, size_t size)
{
	if (settings && settings->server.modules_dir) {
		snprintf(out, size, "%s/%s.so", settings->server.modules_dir, name);
		if (access(out, F_OK) == 0) {
			return true;
		}
		snprintf(out, size, "%s/%s/%s.so", settings->server.modules_dir, name, name);
		return access(out, F_OK) == 0;
	}
	char exe[4096];
	ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash = NULL;
	if (len > 0) {
		exe[len] = '\0';
		slash = strrchr(exe, '/');
	}
	if (slash) {
		*slash = '\0';
		snprintf(out, size, "%s/modules/%s/%s.so", exe, name, name);
		if (access(out, F_OK) == 0) {
			return true;
		}
	}
	snprintf(out, size, "%s/%s.so", STK_MODULE_DIR, name);
	return access(out, F_OK) == 0;
}

struct option_table module_options(const struct stk_module_def *def)
{
	return (struct option_table){ .options = def->options, .stride = def->option_size };
}

static size_t field_size(enum stk_opt_type type)
{
	switch (type) {
	case STK_OPT_BOOL: return sizeof(bool);
	case STK_OPT_ENUM: return sizeof(int);
	case STK_OPT_INT:
	case STK_OPT_BYTES: return sizeof(int64_t);
	case STK_OPT_SECONDS: return sizeof(double);
	default: return sizeof(void *);
	}
}

/* Is the table such that it can be read, and that what it stores lies within the configuration struct? */
static bool options_fit(const struct stk_module_def *def, const char *path, char *err, size_t errlen)
{
	struct option_table table = module_options(def);
	const struct stk_option *option;
	const size_t least = offsetof(struct stk_option, names) + sizeof(option->names); /* as in the first version */
	if (def->options && def->option_size < least) {
		snprintf(err, errlen, "module '%s': %s: its option_size is %u, at least %zu are wanted; define it with STK_MODULE()", def->name,
		         path, def->option_size, least);
		return false;
	}
	for (size_t i = 0; (option = option_at(&table, i)); i++) {
		if (option->offset + field_size(option->type) > def->conf_size) {
			snprintf(err, errlen, "module '%s': %s: its option '%s' lies outside of its configuration struct; is conf_size right?",
			         def->name, path, option->key);
			return false;
		}
	}
	return true;
}

/* Nothing of the definition is read before magic and version are known to fit. */
static bool fits(const struct stk_module_def *def, const char *name, const char *path, char *err, size_t errlen)
{
	if (def->magic != STK_ABI_MAGIC) {
		snprintf(err, errlen, "module '%s': %s: stk_module_def does not begin with STK_ABI_MAGIC; define it with STK_MODULE()",
		         name, path);
	} else if (def->abi_major != STK_ABI_MAJOR || def->abi_minor > STK_ABI_MINOR) {
		snprintf(err, errlen, "module '%s': %s: built for module API %u.%u, this server has %d.%d; rebuild the module against "
		         "the server's headers, or upgrade the server", name, path, def->abi_major, def->abi_minor, STK_ABI_MAJOR,
		         STK_ABI_MINOR);
	} else if (def->size < offsetof(struct stk_module_def, reserved)) {
		snprintf(err, errlen, "module '%s': %s: its definition has %u bytes, at least %zu are wanted; define it with STK_MODULE()", name,
		         path, def->size, offsetof(struct stk_module_def, reserved));
	} else if (!def->name || !def->load) {
		snprintf(err, errlen, "module '%s': %s: its definition lacks name or load", name, path);
	} else if (strcmp(def->name, name) != 0) {
		snprintf(err, errlen, "module '%s': %s: calls itself '%s'; section, file and name must be the same", name, path, def->name);
	} else {
		return options_fit(def, path, err, errlen);
	}
	return false;
}

const struct stk_module_def *module_open(const struct settings *settings, const char *name, char **path, char *err, size_t errlen)
{
	char file[8192];
	if (!module_find_file(settings, name, file, sizeof(file))) {
		snprintf(err, errlen, "module '%s': there is no %s.so (looked last for %s); is the section's name right?", name, name, file);
		return NULL;
	}
	crash_enter(name, "dlopen");
	void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	crash_leave();
	if (!handle) {
		snprintf(err, errlen, "module '%s': %s: %s", name, file, dlerror());
		return NULL;
	}
	/* Never closed: code of it may be on a stack, or referenced, as long as the process runs. */
	const struct stk_module_def *def = dlsym(handle, "stk_module_def");
	if (!def) {
		snprintf(err, errlen, "module '%s': %s: has no symbol stk_module_def; define it with STK_MODULE()", name, file);
		return NULL;
	}
	if (!fits(def, name, file, err, errlen)) {
		return NULL;
	}
	*path = strdup(file);
	return def;
}

/* ---- loading ---- */

struct stk_module *module_find(const struct server *server, const char *name)
{
	struct stk_module *module = server->modules.modules;
	while (module && (module->state == MODULE_CLOSING || strcmp(module->name, name) != 0)) {
		module = module->next;
	}
	return module;
}

struct old_conf {
	struct old_conf *next;
	void *conf;
};

void module_free_conf(const struct stk_module *module, void *conf)
{
	struct option_table table = module_options(module->def);
	if (conf) {
		option_free(&table, conf);
	}
	free(conf);
}

static void free_old_confs(struct stk_module *module)
{
	while (module->old_confs) {
		struct old_conf *old = module->old_confs;
		module->old_confs = old->next;
		module_free_conf(module, old->conf);
		free(old);
	}
}

void module_retire_conf(struct stk_module *module, void *conf)
{
	if (!atomic_load(&module->under_way)) {
		free_old_confs(module);
	}
	struct old_conf *old = malloc(sizeof(*old));
	if (old) { /* else it is leaked: a worker may be reading it */
		*old = (struct old_conf){ .next = module->old_confs, .conf = conf };
		module->old_confs = old;
	}
}

void module_discard(struct stk_module *module)
{
	free_old_confs(module);
	module_free_conf(module, module->conf);
	service_forget(module);
	metric_free_all(module);
	free(module->name);
	free(module->path);
	free(module);
}

static void identify(const char *path, struct module_file *file)
{
	struct stat st;
	*file = (struct module_file){ 0 };
	if (stat(path, &st) == 0) {
		*file = (struct module_file){ .device = st.st_dev, .inode = st.st_ino,
			                      .changed_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec };
	}
}

bool module_file_changed(const struct stk_module *module)
{
	struct module_file now;
	identify(module->path, &now);
	return now.device != module->file.device || now.inode != module->file.inode || now.changed_ns != module->file.changed_ns;
}

void *module_parse(const struct stk_module *module, const struct conf_section *section, conf_report_fn *report, void *arg)
{
	char err[1024] = "", fault[1400];
	const struct stk_module_def *def = module->def;
	void *conf = calloc(1, def->conf_size ? def->conf_size : 1);
	if (!conf) {
		report("out of memory", arg);
		return NULL;
	}
	struct option_table table = module_options(def);
	int rc = conf_apply(section, &table, conf, report, arg);
	crash_enter(module->name, "check");
	bool wrong = rc == 0 && def->check && def->check(conf, err, sizeof(err)) < 0;
	crash_leave();
	if (wrong) {
		snprintf(fault, sizeof(fault), "%s:%u: [%s] %s", section->file, section->line, section->name, err);
		report(fault, arg);
		rc = -EINVAL;
	}
	if (rc < 0) {
		module_free_conf(module, conf);
		return NULL;
	}
	return conf;
}

struct stk_module *module_prepare(struct server *server, const struct conf_section *section, conf_report_fn *report, void *arg)
{
	char err[1024], fault[1400], *path = NULL;
	const struct stk_module_def *def = module_open(server->settings, section->name, &path, err, sizeof(err));
	if (!def) {
		snprintf(fault, sizeof(fault), "%s:%u: %s", section->file, section->line, err);
		report(fault, arg);
		return NULL;
	}
	struct stk_module *module = calloc(1, sizeof(*module));
	char *name = strdup(section->name);
	if (!module || !name || !path) {
		report("out of memory", arg);
		free(module);
		free(name);
		free(path);
		return NULL;
	}
	*module = (struct stk_module){ .server = server, .def = def, .name = name, .path = path };
	identify(path, &module->file);
	module_set_log(module, server->settings);
	module->conf = module_parse(module, section, report, arg);
	if (!module->conf) {
		module_discard(module);
		return NULL;
	}
	return module;
}

int module_load(struct server *server, struct stk_module *module)
{
	*server->modules.last = module;
	server->modules.last = &module->next;
	crash_enter(module->name, "load");
	int rc = module->def->load(module, module->conf);
	crash_leave();
	module->loaded = rc >= 0;
	rc = rc < 0 ? rc : publish(&server->modules, module);
	if (rc < 0) {
		log_write(LOG_ERR, "module: %s: %s: cannot be loaded: %s", module->name, module->path, strerror(-rc));
		return rc;
	}
	module->state = MODULE_LIVE;
	server->modules.generation++;
	module_log(module, LOG_DEBUG, "loaded from %s", module->path);
	return 0;
}

struct candidate {
	struct candidate *next;
	struct stk_module *module;
	const struct conf_section *section;
	bool placed;
};

static bool is_placed(const struct candidate *list, const char *name)
{
	for (; list; list = list->next) {
		if (strcmp(list->module->name, name) == 0) {
			return list->placed;
		}
	}
	return false;
}

static bool is_ready(const struct candidate *list, const struct candidate *one)
{
	const char *const *needs = one->module->def->needs;
	while (needs && *needs && is_placed(list, *needs)) {
		needs++;
	}
	return !needs || !*needs;
}

static void report_stuck(const struct candidate *list, const struct candidate *one, conf_report_fn *report, void *arg)
{
	char fault[1024];
	const char *const *needs = one->module->def->needs;
	while (is_placed(list, *needs)) {
		needs++;
	}
	const struct candidate *other = list;
	while (other && strcmp(other->module->name, *needs) != 0) {
		other = other->next;
	}
	snprintf(fault, sizeof(fault), "%s:%u: module '%s' needs module '%s', %s", one->section->file, one->section->line,
	         one->module->name, *needs, other ? "and that one in turn waits for it" : "which has no section in the configuration");
	report(fault, arg);
}

/* Loads in configuration order, those that are needed first. */
static int place_all(struct server *server, struct candidate *list, bool check_only, conf_report_fn *report, void *arg)
{
	bool progress = true;
	while (progress) {
		progress = false;
		for (struct candidate *one = list; one && !progress; one = one->next) {
			if (one->placed || !is_ready(list, one)) {
				continue;
			}
			one->placed = progress = true;
			struct stk_module *module = one->module;
			int rc = check_only ? 0 : module_load(server, module);
			if (rc < 0) {
				return rc;
			}
		}
	}
	int rc = 0;
	for (struct candidate *one = list; one; one = one->next) {
		if (!one->placed) {
			report_stuck(list, one, report, arg);
			rc = -EINVAL;
		}
	}
	return rc;
}

int module_load_all(struct server *server, bool check_only, conf_report_fn *report, void *arg)
{
	struct candidate *list = NULL, **last = &list;
	unsigned order = 0;
	int rc = 0;
	server->modules.last = &server->modules.modules;
	for (const struct conf_section *section = conf_sections(server->conf); section; section = section->next) {
		if (settings_is_core(section->name)) {
			continue;
		}
		struct candidate *one = calloc(1, sizeof(*one));
		struct stk_module *module = one ? module_prepare(server, section, report, arg) : NULL;
		if (!module) {
			free(one);
			rc = -EINVAL;
			continue;
		}
		one->module = module;
		one->module->order = order++;
		one->section = section;
		*last = one;
		last = &one->next;
	}
	rc = rc < 0 ? rc : place_all(server, list, check_only, report, arg);
	module_sort_hooks(server); /* what is needed was loaded first, but the configuration says who runs first */
	while (list) {
		struct candidate *next = list->next;
		if (!module_find(server, list->module->name)) {
			module_discard(list->module);
		}
		free(list);
		list = next;
	}
	return rc;
}

/* ---- unloading ---- */

void module_suspend(struct stk_module *module)
{
	unpublish(&module->server->modules, module);
	module->state = MODULE_SUSPENDED;
	module->server->modules.generation++;
}

int module_revive(struct stk_module *module)
{
	module->state = MODULE_LIVE;
	module->server->modules.generation++;
	return publish(&module->server->modules, module);
}

/* It may be on the stack: what it registered is freed by module_reap(). */
void module_close(struct stk_module *module)
{
	unpublish(&module->server->modules, module);
	module->state = MODULE_CLOSING;
	module->server->modules.generation++;
	module->server->modules.closing = true;
	modapi_stop_posts(module);
	workers_withdraw(module->server->workers, module);
}

/* Sessions do not keep what belongs to a module that is gone. */
static void free_slots(struct server *server, const struct stk_module *module)
{
	struct module_registry *registry = &server->modules;
	for (int i = 0; i < registry->slot_count; i++) {
		struct stk_session *session, *next;
		if (registry->slots[i].module != module) {
			continue;
		}
		HASH_ITER (hh, server->sessions.by_id, session, next) {
			if (session->slots[i] && registry->slots[i].destroy) {
				crash_enter(module->name, "destroy of a session's data");
				registry->slots[i].destroy(session->slots[i]);
				crash_leave();
			}
			session->slots[i] = NULL;
		}
		registry->slots[i].module = NULL;
		registry->slots[i].destroy = NULL;
	}
}

static void stop_acting(struct stk_module *module)
{
	unpublish(&module->server->modules, module);
	transport_withdraw(module);
	session_reap(module->server);
	ask_withdraw(module);
	modapi_stop_timers(module);
	modapi_stop_watches(module);
	pending_cancel(module);
}

/* Nothing of it is under way any more. */
static void unload(struct stk_module *module)
{
	atomic_store(&module->gone, true);
	sasl_withdraw(module->server, module);
	withdraw(&module->server->modules, module);
	free_slots(module->server, module);
	if (module->loaded && module->def->unload) {
		crash_enter(module->name, "unload");
		module->def->unload(module);
		crash_leave();
	}
	modapi_free_timers(module);
	modapi_free_watches(module);
	unsigned left = pending_free(module);
	if (left) {
		module_log(module, LOG_WARNING, "%u deferred request%s never resumed", left, left == 1 ? " was" : "s were");
	}
	if (module->jobs_lost) {
		module_log(module, LOG_WARNING, "unloaded while %u of its jobs still run%s", module->jobs_lost, module->jobs_lost == 1 ? "s" : "");
	}
	module->next = module->server->modules.tombs;
	module->server->modules.tombs = module;
	module_bury(module);
}

void module_bury(struct stk_module *module)
{
	if (!atomic_load(&module->gone) || module->jobs_lost || atomic_load(&module->under_way)) {
		return;
	}
	struct stk_module **at = &module->server->modules.tombs;
	while (*at && *at != module) {
		at = &(*at)->next;
	}
	if (*at) {
		*at = module->next;
		module_discard(module);
	}
}

void module_reap(struct server *server)
{
	struct module_registry *registry = &server->modules;
	if (!registry->closing) {
		return;
	}
	registry->closing = false;
	struct stk_module **at = &registry->modules;
	while (*at) {
		struct stk_module *module = *at;
		if (module->state != MODULE_CLOSING) {
			at = &module->next;
			continue;
		}
		stop_acting(module);
		if (atomic_load(&module->under_way)) {
			registry->closing = true;
			at = &module->next;
			continue;
		}
		*at = module->next;
		module_log(module, LOG_DEBUG, "unloaded");
		unload(module);
	}
	registry->last = at;
}

void module_sort_hooks(struct server *server)
{
	for (int kind = 0; kind < STK_HOOKS; kind++) {
		struct hook *sorted = NULL, *next;
		for (struct hook *hook = server->modules.hooks[kind]; hook; hook = next) {
			next = hook->next;
			struct hook **at = &sorted;
			while (*at && ((*at)->priority > hook->priority ||
			               ((*at)->priority == hook->priority && (*at)->module->order <= hook->module->order))) {
				at = &(*at)->next;
			}
			hook->next = *at;
			*at = hook;
		}
		server->modules.hooks[kind] = sorted;
	}
}

void module_quiesce_all(struct server *server)
{
	for (struct stk_module *module = server->modules.modules; module; module = module->next) {
		module->state = MODULE_CLOSING;
		stop_acting(module);
		modapi_stop_posts(module);
		jobs_cancel(module);
	}
}

void module_unload_all(struct server *server)
{
	struct stk_module *reversed = NULL;
	while (server->modules.modules) {
		struct stk_module *module = server->modules.modules;
		server->modules.modules = module->next;
		module->next = reversed;
		reversed = module;
	}
	while (reversed) {
		struct stk_module *module = reversed;
		reversed = module->next;
		if (atomic_load(&module->under_way)) { /* a write that does not end may use what is its own */
			module_log(module, LOG_WARNING, "not unloaded: its writes are not through");
		} else {
			unload(module);
		}
	}
}

/* ---- plan ---- */

void server_print_plan(const struct server *server, FILE *out)
{
	fprintf(out, "modules, in load order:\n");
	for (const struct stk_module *module = server->modules.modules; module; module = module->next) {
		fprintf(out, "  %-16s %-8s %s\n", module->name, module->def->version ? module->def->version : "-", module->path);
	}
	fprintf(out, "SASL mechanisms:\n");
	for (const struct mech *mech = server->modules.mechs; mech; mech = mech->next) {
		fprintf(out, "  %-16s %s\n", mech->name, mech->module->name);
	}
	fprintf(out, "services:\n");
	for (const struct provided *provided = server->modules.provided; provided; provided = provided->next) {
		fprintf(out, "  %-16s %-8s %u.%u\n", provided->name, provided->module->name, provided->major, provided->minor);
	}
	fprintf(out, "domains:\n");
	for (const char *const *domain = server->settings->server.domains; *domain; domain++) {
		fprintf(out, "  %s\n", *domain);
	}
	for (const struct served *served = server->modules.domains; served; served = served->next) {
		fprintf(out, "  %-40s %s\n", served->name, served->module->name);
	}
	fprintf(out, "handlers (element, type, xmlns, module, domain; the most exact match is taken):\n");
	for (const struct stk_module *module = server->modules.modules; module; module = module->next) {
		for (const struct handler *handler = module->handlers; handler; handler = handler->next) {
			fprintf(out, "  %-9s %-7s %-40s %s%s%s\n", module_element_name((int)handler->element), handler->type ? handler->type : "*",
			        handler->xmlns ? handler->xmlns : "*", module->name, handler->domain ? " " : "",
			        handler->domain ? handler->domain : "");
		}
	}
	fprintf(out, "hooks (in the order they run):\n");
	for (int kind = 0; kind < STK_HOOKS; kind++) {
		for (const struct hook *hook = server->modules.hooks[kind]; hook; hook = hook->next) {
			fprintf(out, "  %-18s priority %-5d %s\n", module_hook_name(kind), hook->priority, hook->module->name);
		}
	}
}
