/* SPDX-License-Identifier: MIT */
/* What startalkctl tells of modules: which there are and how each stands, and all that is known of one. */

#include "tools/ctl_module.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

/* How a module stands. FAULT: why its file cannot be used, or NULL. */
static const char *state_of(const struct site *site, const char *name, const char *fault)
{
	const json_t *loaded = site_loaded(site, name);
	bool enabled = conf_find(site->conf, name, NULL) != NULL;
	if (loaded && json_is_true(json_object_get(loaded, "changed"))) {
		return "restart needed";
	}
	if (loaded) {
		return enabled ? "loaded" : "loaded until the next reload";
	}
	if (fault) {
		return "failed";
	}
	return !enabled ? "available" : site->running ? "enabled, not loaded" : "enabled";
}

/* Adds what the configuration has to say. */
static void add_state(const struct site *site, json_t *object, const char *name, const char *fault)
{
	const struct conf_section *section = conf_find(site->conf, name, NULL);
	json_object_set_new(object, "state", json_string(state_of(site, name, fault)));
	json_object_set_new(object, "loaded", json_boolean(site_loaded(site, name) != NULL));
	json_object_del(object, "section");
	if (section) {
		json_object_set_new(object, "section", json_sprintf("%s:%u", section->file, section->line));
	}
	if (fault) {
		json_object_set_new(object, "fault", json_string(fault));
	}
}

/* ---- list ---- */

static json_t *find_row(const json_t *rows, const char *name)
{
	size_t i;
	json_t *row;
	json_array_foreach (rows, i, row) {
		if (strcmp(text_of(row, "name"), name) == 0) {
			return row;
		}
	}
	return NULL;
}

static void add_row(const struct site *site, json_t *rows, const char *name)
{
	char *why = NULL;
	if (find_row(rows, name)) {
		return;
	}
	const json_t *loaded = site_loaded(site, name);
	json_t *about = loaded ? json_deep_copy(loaded) : site_describe(site, name, &why);
	json_t *row = json_pack("{s:s,s:s}", "name", name, "version", text_of(about, "version"));
	if (json_object_get(about, "file")) {
		json_object_set(row, "file", json_object_get(about, "file"));
	}
	add_state(site, row, name, why);
	json_array_append_new(rows, row);
	json_decref(about);
	free(why);
}

static void print_text(const char *text)
{
	char *escaped = show_escape(text);
	fputs(escaped ? escaped : "?", stdout);
	free(escaped);
}

static void print_rows(const json_t *rows)
{
	size_t i;
	json_t *row;
	printf("%-16s %-8s %-20s %s\n", "MODULE", "VERSION", "STATE", "ENABLED BY");
	json_array_foreach (rows, i, row) {
		const char *section = text_of(row, "section"), *fault = text_of(row, "fault");
		printf("%-16s %-8s %-20s ", text_of(row, "name"), text_of(row, "version"), text_of(row, "state"));
		print_text(*section ? section : *fault ? "" : "-");
		print_text(*section && *fault ? ": " : "");
		print_text(fault);
		putchar('\n');
	}
}

int inspect_list(const struct site *site, bool json)
{
	char *out = NULL, *rest = NULL;
	size_t i;
	json_t *rows = json_array(), *row;
	for (const struct conf_section *section = conf_sections(site->conf); section; section = section->next) {
		if (!settings_is_core(section->name)) {
			add_row(site, rows, section->name);
		}
	}
	json_array_foreach (site->loaded.modules, i, row) {
		add_row(site, rows, text_of(row, "name"));
	}
	int rc = site_run(site, "--list-modules", NULL, &out, NULL);
	for (char *line = out ? strtok_r(out, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
		line[strcspn(line, "\t")] = '\0';
		add_row(site, rows, line);
	}
	free(out);
	if (json) {
		json_array_foreach (rows, i, row) {
			json_dumpf(row, stdout, JSON_COMPACT);
			putchar('\n');
		}
	} else {
		print_rows(rows);
	}
	json_decref(rows);
	if (rc != 0) {
		ctl_error("which modules could be enabled is not known: the program startalkd is not found, or fails");
	}
	return rc == 0 ? EXIT_SUCCESS : EXIT_REFUSED;
}

/* ---- info ---- */

static void print_member(const char *title, const char *text)
{
	if (*text) {
		printf("%-12s ", title);
		print_text(text);
		putchar('\n');
	}
}

static void print_members(const json_t *object, const char *key, const char *title)
{
	size_t i;
	json_t *text;
	json_array_foreach (json_object_get(object, key), i, text) {
		print_member(i ? "" : title, json_string_value(text));
	}
}

static void print_option(const json_t *option)
{
	const json_t *value = json_object_get(option, "value"), *dflt = json_object_get(option, "default");
	bool required = json_is_true(json_object_get(option, "required"));
	printf("  %s", text_of(option, "name"));
	if (value) {
		fputs(" = ", stdout);
		print_text(json_string_value(value));
	}
	printf("\n      ");
	print_text(text_of(option, "help"));
	printf("\n      %s", text_of(option, "type"));
	printf("%s%s", json_object_get(option, "range") ? ", " : "", text_of(option, "range"));
	fputs(required ? "; required" : dflt ? "; default: " : "; no default", stdout);
	print_text(required || !dflt ? "" : json_string_value(dflt));
	fputs(json_object_get(option, "set") ? "; set in " : "", stdout);
	print_text(text_of(option, "set"));
	putchar('\n');
}

static void print_info(const struct site *site, const json_t *object)
{
	size_t i;
	json_t *option;
	char abi[128];
	const char *server = text_of(site->loaded.head, "abi");
	snprintf(abi, sizeof(abi), "%s%s%s%s", text_of(object, "abi"), *server ? " (the server has " : "", server, *server ? ")" : "");
	print_member("module", text_of(object, "name"));
	print_member("version", text_of(object, "version"));
	print_member("state", text_of(object, "state"));
	print_member("fault", text_of(object, "fault"));
	print_member("enabled by", text_of(object, "section"));
	print_member("file", text_of(object, "file"));
	print_member("module API", *text_of(object, "abi") ? abi : "");
	print_members(object, "needs", "needs");
	print_member("page", text_of(object, "page"));
	print_members(object, "handlers", "handlers");
	print_members(object, "domains", "domains");
	print_members(object, "hooks", "hooks");
	print_members(object, "mechanisms", "mechanisms");
	print_members(object, "services", "services");
	json_array_foreach (json_object_get(object, "options"), i, option) {
		fputs(i ? "" : "options\n", stdout);
		print_option(option);
	}
}

/* Where the page of module NAME is installed. */
static void add_page(json_t *object, const char *name)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s.md", STK_DOC_DIR, name);
	if (access(path, R_OK) == 0) {
		json_object_set_new(object, "page", json_string(path));
	}
}

int inspect_module(struct site *site, const char *name, bool json)
{
	char *why = NULL;
	json_t *lines = json_array(), *object = NULL;
	if (site_loaded(site, name)) {
		json_t *request = json_pack("{s:s,s:s,s:s}", "command", "module", "do", "info", "name", name);
		int status = site_ask(site, request, lines, &why);
		object = status ? NULL : json_incref(json_array_get(lines, 0));
	} else {
		object = site_describe(site, name, &why);
	}
	if (!object && !conf_find(site->conf, name, NULL)) {
		ctl_error("%s", why ? why : "out of memory");
	} else {
		object = object ? object : json_pack("{s:s}", "name", name);
		add_state(site, object, name, why);
		add_page(object, name);
		if (json) {
			json_dumpf(object, stdout, JSON_COMPACT);
			putchar('\n');
		} else {
			print_info(site, object);
		}
	}
	int status = why || !object ? EXIT_REFUSED : EXIT_SUCCESS;
	json_decref(object);
	json_decref(lines);
	free(why);
	return status;
}
