/* SPDX-License-Identifier: MIT */
/* Reload: compares the configuration files with what runs, checks everything first, then swaps. Owns the order of the swap and the way
 * back when a module fails half-way; how one module is loaded and closed is in module.c. */

#include "core/reload.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/crash.h"
#include "core/job.h"
#include "core/log.h"
#include "core/notify.h"

enum change_kind {
	CHANGE_NONE,
	CHANGE_ADD,      /* fresh */
	CHANGE_CONF,     /* old takes the new options by its reload() */
	CHANGE_REPLACE,  /* fresh takes the place of old */
};

/* One section of the new configuration. */
struct change {
	struct change *next;
	const struct conf_section *section;
	enum change_kind kind;
	struct stk_module *old, *fresh;
	void *conf;  /* CHANGE_CONF: the new options until they are in use, then the old ones */
	bool done;
	unsigned order;
};

struct reload {
	struct server *server;
	struct conf *conf;
	struct settings *settings;
	struct tls_credentials *credentials;
	struct change *changes;
	conf_report_fn *report;
	void *arg;
	bool dry;
	int rc;
};

static void audit(const struct reload *reload, const char *event, const char *reason)
{
	if (!reload->dry) {
		module_audit(reload->server, &(struct stk_audit){ .size = sizeof(struct stk_audit), .event = event, .reason = reason });
	}
}

__attribute__((format(printf, 2, 3))) static void tell(const struct reload *reload, const char *fmt, ...)
{
	char text[1400];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	audit(reload, "config", text);
	reload->report(text, reload->arg);
}

/* ---- compare ---- */

static bool is_same(const struct conf_section *a, const struct conf_section *b)
{
	const struct conf_entry *one = a ? a->entries : NULL, *other = b ? b->entries : NULL;
	while (one && other && strcmp(one->key, other->key) == 0 && strcmp(one->value, other->value) == 0) {
		one = one->next;
		other = other->next;
	}
	return !one && !other;
}

static const struct conf_section *running_section(const struct reload *reload, const char *name)
{
	return conf_find(reload->server->conf, name, NULL);
}

/* A new module has its new level in its load() already. */
static void set_fresh_log(const struct reload *reload, const struct change *change)
{
	if (change->fresh) {
		module_set_log(change->fresh, reload->settings);
	}
}

/* What a section means for its module; everything that can be wrong with it is found here. */
static void judge(struct reload *reload, struct change *change)
{
	struct stk_module *old = module_find(reload->server, change->section->name);
	change->old = old;
	if (!old) {
		change->kind = CHANGE_ADD;
		change->fresh = module_prepare(reload->server, change->section, reload->report, reload->arg);
		reload->rc = change->fresh ? reload->rc : -EINVAL;
		set_fresh_log(reload, change);
		return;
	}
	if (module_file_changed(old)) {
		tell(reload, "module %s: %s has changed: restart needed, the code that was loaded stays in use", old->name, old->path);
	}
	if (is_same(change->section, running_section(reload, old->name))) {
		return;
	}
	if (old->def->reload) {
		change->kind = CHANGE_CONF;
		change->conf = module_parse(old, change->section, reload->report, reload->arg);
		reload->rc = change->conf ? reload->rc : -EINVAL;
	} else {
		change->kind = CHANGE_REPLACE;
		change->fresh = module_prepare(reload->server, change->section, reload->report, reload->arg);
		reload->rc = change->fresh ? reload->rc : -EINVAL;
		set_fresh_log(reload, change);
	}
}

static const struct change *find_change(const struct reload *reload, const char *name)
{
	const struct change *change = reload->changes;
	while (change && strcmp(change->section->name, name) != 0) {
		change = change->next;
	}
	return change;
}

static void check_needs(struct reload *reload, const struct change *change)
{
	const struct stk_module *module = change->fresh ? change->fresh : change->old;
	for (const char *const *need = module ? module->def->needs : NULL; need && *need; need++) {
		if (!find_change(reload, *need)) {
			tell(reload, "%s:%u: module '%s' needs module '%s', which has no section in the configuration", change->section->file,
			     change->section->line, module->name, *need);
			reload->rc = -EINVAL;
		}
	}
}

static void read_changes(struct reload *reload)
{
	struct change **last = &reload->changes;
	unsigned order = 0;
	for (const struct conf_section *section = conf_sections(reload->conf); section; section = section->next) {
		if (settings_is_core(section->name)) {
			continue;
		}
		struct change *change = calloc(1, sizeof(*change));
		if (!change) {
			reload->rc = -ENOMEM;
			return;
		}
		change->section = section;
		change->order = order++;
		*last = change;
		last = &change->next;
		judge(reload, change);
	}
	for (struct change *change = reload->changes; change; change = change->next) {
		check_needs(reload, change);
	}
}

/* ---- swap ---- */

static bool is_needed_first(const struct reload *reload, const struct change *change)
{
	for (const char *const *need = change->fresh->def->needs; need && *need; need++) {
		const struct change *other = find_change(reload, *need);
		if (other->fresh && !other->done) {
			return true;
		}
	}
	return false;
}

/* 0, or -errno and nothing but what `done` says has happened. */
static int load_fresh(struct reload *reload)
{
	bool progress = true;
	while (progress) {
		progress = false;
		for (struct change *change = reload->changes; change; change = change->next) {
			if (!change->fresh || change->done || is_needed_first(reload, change)) {
				continue;
			}
			change->fresh->order = change->order;
			change->done = progress = true;
			int rc = module_load(reload->server, change->fresh);
			if (rc < 0) {
				tell(reload, "module %s: cannot be loaded: %s; see the log", change->fresh->name, strerror(-rc));
				return rc;
			}
		}
	}
	for (const struct change *change = reload->changes; change; change = change->next) {
		if (change->fresh && !change->done) {
			tell(reload, "%s:%u: module '%s' needs a module that in turn waits for it", change->section->file, change->section->line,
			     change->fresh->name);
			return -EINVAL;
		}
	}
	return 0;
}

static int call_reload(struct change *change)
{
	crash_enter(change->old->name, "reload");
	int rc = change->old->def->reload(change->old, change->conf);
	crash_leave();
	return rc;
}

static int reconfigure(struct reload *reload)
{
	for (struct change *change = reload->changes; change; change = change->next) {
		if (change->kind != CHANGE_CONF) {
			continue;
		}
		int rc = call_reload(change);
		if (rc < 0) {
			tell(reload, "%s:%u: module %s does not take its new options: %s", change->section->file, change->section->line,
			     change->old->name, strerror(-rc));
			return rc;
		}
		void *before = change->old->conf;
		change->old->conf = change->conf;
		change->conf = before;
		change->done = true;
	}
	return 0;
}

static bool has_mech(const struct server *server)
{
	const struct mech *mech = server->modules.mechs;
	while (mech && mech->module->state != MODULE_LIVE) {
		mech = mech->next;
	}
	return mech != NULL;
}

static bool is_leaving(const struct reload *reload, const struct stk_module *module)
{
	const struct change *change = find_change(reload, module->name);
	return module->state != MODULE_CLOSING && (!change || (change->kind == CHANGE_REPLACE && module == change->old));
}

/* Everything is as it was. */
static void roll_back(struct reload *reload)
{
	for (struct change *change = reload->changes; change; change = change->next) {
		if (change->fresh && change->done) {
			module_close(change->fresh);
			change->fresh = NULL;
		}
	}
	for (struct stk_module *module = reload->server->modules.modules; module; module = module->next) {
		if (module->state == MODULE_SUSPENDED && module_revive(module) < 0) {
			log_write(LOG_ERR, "reload: module %s: out of memory: not everything could be put back; restart the server", module->name);
		}
	}
	for (struct change *change = reload->changes; change; change = change->next) {
		if (change->kind == CHANGE_CONF && change->done) {
			int rc = call_reload(change);
			if (rc < 0) {
				log_write(LOG_ERR, "reload: module %s: does not take its old options back: %s", change->old->name, strerror(-rc));
			}
			void *tried = change->old->conf;
			change->old->conf = change->conf;
			change->conf = NULL;
			module_retire_conf(change->old, tried);
		}
	}
}

static int swap_modules(struct reload *reload)
{
	struct server *server = reload->server;
	int rc = reconfigure(reload);
	for (struct stk_module *module = server->modules.modules; module && rc == 0; module = module->next) {
		if (is_leaving(reload, module)) {
			module_suspend(module);
		}
	}
	rc = rc < 0 ? rc : load_fresh(reload);
	if (rc == 0 && !has_mech(server)) {
		tell(reload, "no module would offer a SASL mechanism, so nobody could log in");
		rc = -ENOENT;
	}
	if (rc < 0) {
		roll_back(reload);
		return rc;
	}
	for (struct stk_module *module = server->modules.modules; module; module = module->next) {
		if (module->state == MODULE_SUSPENDED) {
			module_close(module);
		}
	}
	for (struct change *change = reload->changes; change; change = change->next) {
		if (change->kind == CHANGE_CONF) {
			module_retire_conf(change->old, change->conf);
			change->conf = NULL;
		}
		if (change->old && change->kind != CHANGE_REPLACE) {
			change->old->order = change->order;
		}
		change->fresh = NULL; /* it is in the server's list */
	}
	module_sort_hooks(server);
	return 0;
}

/* The parts of SETTINGS that can change while the server runs; the rest stays. */
static void swap_settings(struct reload *reload)
{
	struct settings *now = reload->server->settings, *fresh = reload->settings, before = *now;
	now->tls = fresh->tls;
	now->log = fresh->log;
	now->login = fresh->login;
	now->limits = fresh->limits;
	now->have_tls_section = fresh->have_tls_section;
	fresh->tls = before.tls;
	fresh->log = before.log;
	fresh->login = before.login;
	fresh->limits = before.limits;
	log_setup(settings_log_level(now), now->log.target == LOG_TARGET_SYSLOG);
	for (struct stk_module *module = reload->server->modules.modules; module; module = module->next) {
		module_set_log(module, now);
	}
	jobs_look(reload->server);
	tls_credentials_unref(reload->server->credentials);
	reload->server->credentials = reload->credentials;
	loop_configure(reload->server->loop, &now->limits, reload->credentials);
	reload->credentials = NULL;
	log_write(LOG_NOTICE, "tls: certificate and key were read anew");
}

/* ---- what is told ---- */

static void tell_changes(const struct reload *reload, bool dry)
{
	static const char *const names[] = { [CHANGE_ADD] = "added", [CHANGE_CONF] = "changed", [CHANGE_REPLACE] = "changed" };
	static const char *const fixed[] = { "server", "listen" }, *const live[] = { "tls", "log", "login", "limits" };
	const char *would = dry ? "would be " : "";
	for (const struct change *change = reload->changes; change; change = change->next) {
		if (change->kind != CHANGE_NONE) {
			tell(reload, "module %s: %s%s", change->section->name, would, names[change->kind]);
		}
	}
	for (const struct stk_module *module = reload->server->modules.modules; module; module = module->next) {
		if (module->state == MODULE_LIVE && !find_change(reload, module->name)) {
			tell(reload, "module %s: %sremoved", module->name, would);
		}
	}
	for (size_t i = 0; i < sizeof(live) / sizeof(*live); i++) {
		if (!is_same(conf_find(reload->conf, live[i], NULL), running_section(reload, live[i]))) {
			tell(reload, "[%s]: %schanged", live[i], would);
		}
	}
	for (size_t i = 0; i < sizeof(fixed) / sizeof(*fixed); i++) {
		const struct conf_section *one = conf_sections(reload->conf), *other = conf_sections(reload->server->conf);
		bool same = true;
		while (same && (one || other)) {
			for (; one && strcmp(one->name, fixed[i]) != 0; one = one->next) {
			}
			for (; other && strcmp(other->name, fixed[i]) != 0; other = other->next) {
			}
			same = !one == !other && is_same(one, other);
			one = one ? one->next : NULL;
			other = other ? other->next : NULL;
		}
		if (!same) {
			tell(reload, "[%s]: has changed: restart needed, what was read at the start stays in use", fixed[i]);
		}
	}
}

/* ---- all of it ---- */

int stk_reload(struct stk_module *module, bool dry_run, void (*each)(const char *, void *), void *arg)
{
	if (module->server->stopping) {
		return -ECANCELED;
	}
	log_tap(each, arg); /* why a module cannot be loaded is logged by itself, and whoever asked should be told */
	int rc = server_reload(module->server, dry_run, each, arg);
	log_tap(NULL, NULL);
	return rc;
}

static void release(struct reload *reload)
{
	while (reload->changes) {
		struct change *change = reload->changes;
		reload->changes = change->next;
		if (change->conf) {
			module_free_conf(change->old, change->conf);
		}
		if (change->fresh) {
			module_discard(change->fresh);
		}
		free(change);
	}
	tls_credentials_unref(reload->credentials);
	settings_free(&reload->settings);
	conf_free(&reload->conf);
}

/* The configuration that is compared with next time; the first one stays, since listeners point into it. */
static void keep_conf(struct reload *reload)
{
	struct server *server = reload->server;
	if (server->first_conf) {
		conf_free(&server->conf);
	} else {
		server->first_conf = server->conf;
	}
	server->conf = reload->conf;
	reload->conf = NULL;
}

int server_reload(struct server *server, bool dry, conf_report_fn *report, void *arg)
{
	char err[1024];
	if (!dry) {
		notify_reloading();
	}
	struct reload reload = { .server = server, .report = report, .arg = arg, .dry = dry, .conf = conf_new() };
	reload.rc = reload.conf ? settings_load(server->config, reload.conf, &reload.settings, report, arg) : -ENOMEM;
	if (reload.rc == 0) {
		read_changes(&reload);
	}
	if (reload.rc == 0) {
		reload.rc = tls_credentials_load(reload.settings, &reload.credentials, err, sizeof(err));
		if (reload.rc < 0) {
			tell(&reload, "%s; the certificate in use stays", err);
		}
	}
	if (reload.rc == 0) {
		tell_changes(&reload, dry);
	}
	if (reload.rc == 0 && !dry) {
		reload.rc = swap_modules(&reload);
	}
	if (reload.rc == 0 && !dry) {
		swap_settings(&reload);
		keep_conf(&reload);
	}
	int rc = reload.rc;
	audit(&reload, "reload", rc < 0 ? "refused: everything stays as it was" : "done");
	release(&reload);
	log_tap(NULL, NULL); /* how it went is told by what is returned */
	log_write(rc < 0 ? LOG_ERR : LOG_NOTICE, "reload: %s", rc < 0 ? "refused: everything stays as it was" : dry ? "checked only" : "done");
	if (!dry) {
		notify_reloaded(rc);
	}
	return rc;
}
