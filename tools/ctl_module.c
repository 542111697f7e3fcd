/* SPDX-License-Identifier: MIT */
/* startalkctl module: enables and disables modules by changing one file of plugins.d and having the server read it. Whoever runs it must be
 * allowed to write there: the server itself is not. What is refused is undone. */

#include "tools/ctl_module.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <glob.h>

#include "tools/ctl_plugins.h"

#define NAME_BYTES 256

/* One change under way. */
struct task {
	struct site *site;
	const char *name;
	bool json;
	struct plugins plugins;
};

void module_say(bool json, const char *fmt, ...)
{
	char *text = NULL, *escaped = NULL;
	va_list args;
	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0) {
		text = NULL;
	}
	va_end(args);
	if (json) {
		json_t *line = json_pack("{s:s}", "text", text ? text : "");
		json_dumpf(line, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(line);
	} else {
		escaped = text ? show_escape(text) : NULL;
		puts(escaped ? escaped : "out of memory");
	}
	free(escaped);
	free(text);
}

/* ---- asking the server to take it up ---- */

static int reload(const struct task *task)
{
	char *why = NULL;
	size_t i;
	json_t *line, *lines = json_array();
	int status = site_ask(task->site, json_pack("{s:s}", "command", "reload"), lines, &why);
	json_array_foreach (lines, i, line) {
		const char *text = json_string_value(json_object_get(line, "text"));
		if (text && status) {
			ctl_error("%s", text);
		} else if (text) {
			module_say(task->json, "%s", text);
		}
	}
	if (status) {
		ctl_error("%s", why ? why : "out of memory");
	}
	json_decref(lines);
	free(why);
	return status;
}

static int check(const struct task *task)
{
	char *err = NULL, *rest = NULL;
	int rc = site_run(task->site, "--check", NULL, NULL, &err);
	for (char *line = rc && err ? strtok_r(err, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
		ctl_error("%s", strncmp(line, "startalkd: ", 11) == 0 ? line + 11 : line);
	}
	if (rc) {
		ctl_error("%s", rc == -ENOENT ? "the program startalkd, which would check it, is not found beside this one"
					      : "the configuration would have faults");
	} else {
		module_say(task->json, "no server runs with this configuration and the module admin: it takes effect at the next start, or with SIGHUP");
	}
	free(err);
	return rc ? EXIT_REFUSED : EXIT_SUCCESS;
}

static int take_effect(const struct task *task)
{
	return task->site->running ? reload(task) : check(task);
}

static int cannot(const struct task *task, const char *what, const char *file, int rc)
{
	ctl_error("%s/%s cannot be %s: %s%s", task->plugins.path, file, what, strerror(-rc),
		  rc == -EACCES || rc == -EPERM ? "; do it as the user whom the folder belongs to" : "");
	return EXIT_REFUSED;
}

/* ---- enable ---- */

/* The name of an installed template for the module, which says where among the others it belongs. */
static bool find_template(const char *name, char *path, size_t size)
{
	static const char *const beside[] = { "plugins.d", "../share/startalkd/plugins.d" };
	char self[PATH_MAX], pattern[3][PATH_MAX + NAME_BYTES + 64];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[len > 0 ? len : 0] = '\0';
	char *slash = strrchr(self, '/');
	*(slash ? slash : self) = '\0';
	for (size_t i = 0; i < 2; i++) {
		snprintf(pattern[i], sizeof(pattern[i]), "%s/%s/[0-9]*-%s.conf", self, beside[i], name);
	}
	snprintf(pattern[2], sizeof(pattern[2]), "%s/[0-9]*-%s.conf", STK_TEMPLATE_DIR, name);
	bool found = false;
	for (size_t i = 0; i < 3 && !found; i++) {
		glob_t files = { 0 };
		found = glob(pattern[i], 0, NULL, &files) == 0;
		if (found) {
			found = snprintf(path, size, "%s", files.gl_pathv[0]) < (int)size;
		}
		globfree(&files);
	}
	return found;
}

/* The section with its options commented out, as the module itself describes them. malloc'd. */
static char *write_section(const json_t *about, const char *name)
{
	char *text = NULL;
	size_t size, i;
	json_t *option;
	FILE *out = open_memstream(&text, &size);
	if (!out) {
		return NULL;
	}
	fprintf(out, "[%s]\n", name);
	json_array_foreach (json_object_get(about, "options"), i, option) {
		const char *help = json_string_value(json_object_get(option, "help"));
		const char *dflt = json_string_value(json_object_get(option, "default"));
		fprintf(out, "; %s\n; %s = %s\n", help ? help : "", json_string_value(json_object_get(option, "name")), dflt ? dflt : "");
	}
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* FILE becomes the one that enables the module, with what stood in OLD (NULL: none) and PAIRS. */
static int write_file(const struct task *task, const json_t *about, const char *old, const json_t *pairs, char *file)
{
	char path[PATH_MAX + NAME_BYTES], *text = NULL, *set;
	if (old) {
		snprintf(path, sizeof(path), "%s/%s", task->plugins.path, old);
		snprintf(file, NAME_BYTES, "%.*s", (int)(strlen(old) - strlen(".disabled")), old);
	} else if (find_template(task->name, path, sizeof(path))) {
		snprintf(file, NAME_BYTES, "%s", strrchr(path, '/') + 1);
	} else {
		path[0] = '\0';
		snprintf(file, NAME_BYTES, "%s.conf", task->name);
	}
	text = path[0] ? plugins_read(path) : write_section(about, task->name);
	set = text ? plugins_set(text, pairs) : NULL;
	snprintf(path, sizeof(path), "%s/%s", task->plugins.path, file);
	int status = EXIT_REFUSED, rc;
	if (!set) {
		ctl_error("%s: %s", file, text ? "out of memory" : "cannot be read");
	} else if (access(path, F_OK) == 0) {
		ctl_error("%s is there already, without a section [%s]; put one there, then: startalkctl reload", path, task->name);
	} else if ((rc = plugins_write(&task->plugins, file, set)) < 0) {
		status = cannot(task, "written", file, rc);
	} else {
		status = EXIT_SUCCESS;
	}
	free(text);
	free(set);
	return status;
}

/* It is enabled in the files; perhaps a run of this that was cut off never told the server. */
static int enable_again(const struct task *task, const struct conf_section *section, const json_t *pairs)
{
	if (json_array_size(pairs)) {
		ctl_error("module %s is enabled already, at %s:%u; set its options there, then: startalkctl reload", task->name, section->file,
			  section->line);
		return EXIT_REFUSED;
	}
	module_say(task->json, "module %s is enabled already, at %s:%u", task->name, section->file, section->line);
	if (!task->site->running || site_loaded(task->site, task->name)) {
		return EXIT_SUCCESS;
	}
	int status = reload(task);
	if (status) {
		ctl_error("%s was there before and stays as it is: put it right, or: startalkctl module disable %s", section->file, task->name);
	}
	return status;
}

static int enable(const struct task *task, const json_t *pairs)
{
	char old[NAME_BYTES], file[NAME_BYTES], *why = NULL;
	const struct conf_section *section = conf_find(task->site->conf, task->name, NULL);
	if (section) {
		return enable_again(task, section, pairs);
	}
	json_t *about = site_describe(task->site, task->name, &why);
	bool kept = plugins_find_disabled(&task->plugins, task->name, old, sizeof(old));
	int status = EXIT_REFUSED;
	if (about) {
		status = write_file(task, about, kept ? old : NULL, pairs, file);
	} else {
		ctl_error("%s", why ? why : "out of memory");
	}
	json_decref(about);
	free(why);
	if (status) {
		return status;
	}
	status = take_effect(task);
	int rc = status ? plugins_remove(&task->plugins, file) : kept ? plugins_remove(&task->plugins, old) : 0;
	if (rc < 0) {
		return cannot(task, "removed", status ? file : old, rc);
	}
	if (status) {
		ctl_error("%s/%s is taken away again: module %s stays disabled", task->plugins.path, file, task->name);
	} else {
		module_say(task->json, "module %s is enabled by %s/%s", task->name, task->plugins.path, file);
	}
	return status;
}

/* ---- disable ---- */

static int disable_again(const struct task *task)
{
	module_say(task->json, "module %s is not enabled", task->name);
	return task->site->running && site_loaded(task->site, task->name) ? reload(task) : EXIT_SUCCESS;
}

/* The name within plugins.d of the file that has this section and no other; NULL: there is more to it. */
static const char *own_file(const struct task *task, const struct conf_section *section)
{
	size_t len = strlen(task->plugins.path);
	bool inside = strncmp(section->file, task->plugins.path, len) == 0 && section->file[len] == '/';
	for (const struct conf_section *other = conf_sections(task->site->conf); other; other = other->next) {
		inside = inside && (other == section || strcmp(other->file, section->file) != 0);
	}
	return inside ? section->file + len + 1 : NULL;
}

static int disable(const struct task *task)
{
	char parked[NAME_BYTES + 32];
	const struct conf_section *section = conf_find(task->site->conf, task->name, NULL);
	if (!section) {
		return disable_again(task);
	}
	const char *file = own_file(task, section);
	if (!file) {
		ctl_error("[%s] stands at %s:%u, in a file that has more than that: take the section out by hand, then: startalkctl reload",
			  task->name, section->file, section->line);
		return EXIT_REFUSED;
	}
	plugins_disabled_name(&task->plugins, file, parked, sizeof(parked));
	int rc = plugins_rename(&task->plugins, file, parked);
	if (rc < 0) {
		return cannot(task, "renamed", file, rc);
	}
	int status = take_effect(task);
	if (status == EXIT_REFUSED) {
		rc = plugins_rename(&task->plugins, parked, file);
		if (rc < 0) {
			return cannot(task, "renamed back", parked, rc);
		}
		ctl_error("%s/%s stays: module %s is enabled as before", task->plugins.path, file, task->name);
	} else {
		module_say(task->json, "module %s is disabled; its options are kept in %s/%s", task->name, task->plugins.path, parked);
	}
	return status;
}

/* ---- the command line ---- */

static int misuse(const char *fmt, const char *object)
{
	char text[512];
	snprintf(text, sizeof(text), "%s%s%s", object ? object : "", object ? ": " : "", fmt);
	ctl_error("%s; usage: startalkctl module list | info NAME | enable NAME [KEY=VALUE...] | disable NAME", text);
	return EXIT_USAGE;
}

static bool is_name(const char *text, const char *letters)
{
	size_t len = strspn(text, letters);
	return len && len < 64 && !text[len];
}

/* Can it be written as one line of the configuration, and read back as it is? */
static const char *fault_of_pair(const char *pair)
{
	const char *value = strchr(pair, '=');
	size_t key = strcspn(pair, "=");
	if (!value || !key || strspn(pair, "abcdefghijklmnopqrstuvwxyz0123456789-_") != key) {
		return "an option is written KEY=VALUE";
	}
	for (const unsigned char *at = (const unsigned char *)value; *at; at++) {
		if ((*at < 0x20 && *at != '\t') || *at == 0x7f) {
			return "a value has no line ends and no controls";
		}
	}
	return plugins_can_write(value + 1) ? NULL : "this value cannot be written in a configuration file";
}

static int change(struct site *site, const char *what, const char *name, const json_t *pairs, bool json)
{
	struct task task = { .site = site, .name = name, .json = json };
	if (!site->server.plugins_dir) {
		ctl_error("%s has no plugins-dir in its section [server], where a file could be put; write the section [%s] by hand, then: "
			  "startalkctl reload", site->config, name);
		return EXIT_REFUSED;
	}
	char *folder = strdup(site->server.plugins_dir);
	int rc = folder ? plugins_lock(&task.plugins, folder) : -ENOMEM;
	int status = EXIT_REFUSED;
	if (rc < 0) {
		ctl_error("%s: %s", site->server.plugins_dir, rc == -EBUSY ? "somebody else is changing modules just now" : strerror(-rc));
	} else if ((status = site_refresh(site)) == 0) {
		status = strcmp(what, "enable") == 0 ? enable(&task, pairs) : disable(&task);
	}
	if (folder) {
		plugins_unlock(&task.plugins);
	}
	free(folder);
	return status;
}

int ctl_module(const struct ctl_place *place, const json_t *words, bool json)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
	const char *what = json_string_value(json_array_get(words, 0)), *name = json_string_value(json_array_get(words, 1));
	size_t count = json_array_size(words);
	bool list = what && strcmp(what, "list") == 0, info = what && strcmp(what, "info") == 0;
	bool on = what && strcmp(what, "enable") == 0, off = what && strcmp(what, "disable") == 0;
	if (!list && !info && !on && !off) {
		return misuse(what ? "not known" : "what about modules?", what);
	}
	if (list ? count > 1 : count < 2 || (!on && count > 2)) {
		return misuse(count < 2 ? "which module?" : "too many words", NULL);
	}
	if (!list && (!is_name(name, letters) || settings_is_core(name))) {
		return misuse("not the name of a module", name);
	}
	json_t *pairs = json_array();
	for (size_t i = 2; i < count; i++) {
		const char *pair = json_string_value(json_array_get(words, i)), *fault = fault_of_pair(pair);
		if (fault) {
			json_decref(pairs);
			return misuse(fault, pair);
		}
		json_array_append(pairs, json_array_get(words, i));
	}
	struct site site;
	int status = site_open(&site, place);
	if (status == 0) {
		status = list ? inspect_list(&site, json) : info ? inspect_module(&site, name, json) : change(&site, what, name, pairs, json);
	}
	site_close(&site);
	json_decref(pairs);
	return status;
}
