/* SPDX-License-Identifier: MIT */
/* What there is to know of modules, told as keys and values: of those that are loaded, to modules; of those that only lie in their
 * folder, on the command line. Decides nothing. */

#include "core/describe.h"

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/server.h"

struct teller {
	describe_fn *each;
	void *arg;
};

__attribute__((format(printf, 3, 4))) static void tell(const struct teller *teller, const char *key, const char *fmt, ...)
{
	char text[8192];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	teller->each(key, text, teller->arg);
}

/* What PRINT writes of OPTION, or nothing. */
static void tell_printed(const struct teller *teller, const char *key, const struct stk_option *option,
                         void (*print)(const struct stk_option *, FILE *))
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	if (!out) {
		return;
	}
	print(option, out);
	if (fclose(out) == 0 && len) {
		teller->each(key, text, teller->arg);
	}
	free(text);
}

/* SECTION is what is in effect; NULL: the module is not loaded. */
static void tell_options(const struct teller *teller, const struct stk_module_def *def, const struct conf_section *section)
{
	struct option_table table = module_options(def);
	const struct stk_option *option;
	for (size_t i = 0; (option = option_at(&table, i)); i++) {
		const struct conf_entry *entry = section ? section->entries : NULL;
		while (entry && strcmp(entry->key, option->key) != 0) {
			entry = entry->next;
		}
		tell(teller, "option", "%s", option->key);
		tell_printed(teller, "option-type", option, option_print_type);
		tell_printed(teller, "option-range", option, option_print_range);
		if (option->dflt) {
			tell(teller, "option-default", "%s", option->dflt);
		}
		tell(teller, "option-required", "%s", option_is_required(option) ? "yes" : "no");
		tell(teller, "option-help", "%s", option->help ? option->help : "");
		if (entry || (section && option->dflt)) {
			tell(teller, "option-value", "%s", entry ? entry->value : option->dflt);
		}
		if (entry) {
			tell(teller, "option-set", "%s:%u", section->file, entry->line);
		}
	}
}

static void tell_def(const struct teller *teller, const struct stk_module_def *def, const char *path)
{
	tell(teller, "module", "%s", def->name);
	tell(teller, "version", "%s", def->version ? def->version : "");
	tell(teller, "file", "%s", path);
	tell(teller, "abi", "%u.%u", def->abi_major, def->abi_minor);
	for (const char *const *need = def->needs; need && *need; need++) {
		tell(teller, "need", "%s", *need);
	}
}

/* ---- what is loaded ---- */

static void tell_registered(const struct teller *teller, const struct stk_module *module)
{
	const struct module_registry *registry = &module->server->modules;
	for (const struct handler *handler = module->handlers; handler; handler = handler->next) {
		tell(teller, "handler", "%s %s %s%s%s", module_element_name((int)handler->element), handler->type ? handler->type : "*",
		     handler->xmlns ? handler->xmlns : "*",
		     handler->domain ? " " : "", handler->domain ? handler->domain : "");
	}
	for (const struct served *served = registry->domains; served; served = served->next) {
		if (served->module == module) {
			tell(teller, "domain", "%s", served->name);
		}
	}
	for (int kind = 0; kind < STK_HOOKS; kind++) {
		for (const struct hook *hook = registry->hooks[kind]; hook; hook = hook->next) {
			if (hook->module == module) {
				tell(teller, "hook", "%s priority %d", module_hook_name(kind), hook->priority);
			}
		}
	}
	for (const struct mech *mech = registry->mechs; mech; mech = mech->next) {
		if (mech->module == module) {
			tell(teller, "mechanism", "%s", mech->name);
		}
	}
	for (const struct provided *provided = registry->provided; provided; provided = provided->next) {
		if (provided->module == module) {
			tell(teller, "service", "%s %u.%u", provided->name, provided->major, provided->minor);
		}
	}
}

static void tell_module(const struct teller *teller, const struct stk_module *module, bool all)
{
	const struct conf_section *section = conf_find(module->server->conf, module->name, NULL);
	tell_def(teller, module->def, module->path);
	tell(teller, "changed", "%s", module_file_changed(module) ? "yes" : "no");
	if (section) {
		tell(teller, "section", "%s:%u", section->file, section->line);
	}
	if (all) {
		tell_registered(teller, module);
		tell_options(teller, module->def, section);
	}
}

int stk_describe(struct stk_module *self, const char *name, describe_fn *each, void *arg)
{
	const struct server *server = self->server;
	const struct teller teller = { .each = each, .arg = arg };
	char *folder = server->config[0] == '/' ? NULL : getcwd(NULL, 0);
	bool found = false;
	if (!name) {
		tell(&teller, "config", "%s%s%s", folder ? folder : "", folder ? "/" : "", server->config);
		tell(&teller, "abi", "%d.%d", STK_ABI_MAJOR, STK_ABI_MINOR);
	}
	free(folder);
	for (const struct stk_module *module = server->modules.modules; module; module = module->next) {
		if (module->state == MODULE_LIVE && (!name || strcmp(module->name, name) == 0)) {
			tell_module(&teller, module, name != NULL);
			found = true;
		}
	}
	return found || !name ? 0 : -ENOENT;
}

/* ---- what is there ---- */

static void print_fact(const char *key, const char *value, void *arg)
{
	FILE *out = arg;
	fprintf(out, "%s\t", key);
	for (; *value; value++) {
		fputc((unsigned char)*value < 0x20 ? ' ' : *value, out);
	}
	fputc('\n', out);
}

int describe_file(const struct settings *settings, const char *name, FILE *out, char *err, size_t errlen)
{
	char *path = NULL;
	const struct teller teller = { .each = print_fact, .arg = out };
	const struct stk_module_def *def = module_open(settings, name, &path, err, errlen);
	if (!def || !path) {
		free(path);
		return -EINVAL;
	}
	tell_def(&teller, def, path);
	tell_options(&teller, def, NULL);
	free(path);
	return 0;
}

/* Of two files of one name only the one counts that would be loaded. */
static void list_matches(const struct settings *settings, const char *pattern, FILE *out)
{
	glob_t found;
	if (glob(pattern, 0, NULL, &found) != 0) {
		return;
	}
	for (size_t i = 0; i < found.gl_pathc; i++) {
		char name[256], path[8192];
		const char *base = strrchr(found.gl_pathv[i], '/');
		snprintf(name, sizeof(name), "%s", base ? base + 1 : found.gl_pathv[i]);
		name[strlen(name) - strlen(".so")] = '\0';
		if (module_find_file(settings, name, path, sizeof(path)) && strcmp(path, found.gl_pathv[i]) == 0) {
			fprintf(out, "%s\t%s\n", name, path);
		}
	}
	globfree(&found);
}

void describe_list(const struct settings *settings, FILE *out)
{
	char folders[2][4096] = { "", STK_MODULE_DIR }, pattern[8200];
	if (settings && settings->server.modules_dir) {
		snprintf(folders[0], sizeof(folders[0]), "%s", settings->server.modules_dir);
		folders[1][0] = '\0';
	} else {
		ssize_t len = readlink("/proc/self/exe", folders[0], sizeof(folders[0]) - sizeof("/modules"));
		char *slash = len > 0 ? strrchr(folders[0], '/') : NULL;
		strcpy(slash ? slash : folders[0], slash ? "/modules" : "");
	}
	for (size_t i = 0; i < 2; i++) {
		for (size_t j = 0; j < 2 && folders[i][0]; j++) {
			snprintf(pattern, sizeof(pattern), "%s/%s*.so", folders[i], j ? "*/" : "");
			list_matches(settings, pattern, out);
		}
	}
}
