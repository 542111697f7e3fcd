/* SPDX-License-Identifier: MIT */
/* Configuration files: cuts INI text into sections and entries, and matches a section with its option table. A reader of
 * our own instead of inih: that library cuts names at 50 bytes, does not tell of sections without keys (here they enable
 * modules), and gives no line numbers, without which no fault can be named. */

#include "core/conf.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <unistr.h>

#define FILE_MAX (1024 * 1024)
#define LINE_MAX_BYTES 4095

struct conf_file {
	struct conf_file *next;
	char name[];
};

struct conf {
	struct conf_section *first, **last;
	struct conf_file *files;
};

struct reader {
	struct conf *conf;
	const char *file;
	unsigned line;
	struct conf_section *section; /* NULL: none yet, or the last one was refused */
	bool skip;                    /* entries belong to a refused section */
	conf_report_fn *report;
	void *arg;
	int rc;
};

struct conf *conf_new(void)
{
	struct conf *conf = calloc(1, sizeof(*conf));
	if (conf) {
		conf->last = &conf->first;
	}
	return conf;
}

void conf_free(struct conf **conf_ptr)
{
	struct conf *conf = *conf_ptr;
	*conf_ptr = NULL;
	while (conf && conf->first) {
		struct conf_section *section = conf->first;
		conf->first = section->next;
		while (section->entries) {
			struct conf_entry *entry = section->entries;
			section->entries = entry->next;
			free(entry->key);
			free(entry->value);
			free(entry);
		}
		free(section->name);
		free(section->label);
		free(section);
	}
	while (conf && conf->files) {
		struct conf_file *file = conf->files;
		conf->files = file->next;
		free(file);
	}
	free(conf);
}

const struct conf_section *conf_sections(const struct conf *conf)
{
	return conf->first;
}

static bool same_label(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

const struct conf_section *conf_find(const struct conf *conf, const char *name, const char *label)
{
	const struct conf_section *section = conf->first;
	while (section && (strcmp(section->name, name) != 0 || !same_label(section->label, label))) {
		section = section->next;
	}
	return section;
}

__attribute__((format(printf, 2, 3))) static void fault(struct reader *reader, const char *fmt, ...)
{
	char text[1024], line[5400];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	snprintf(line, sizeof(line), "%.4096s:%u: %s", reader->file, reader->line, text);
	reader->report(line, reader->arg);
	reader->rc = reader->rc ? reader->rc : -EINVAL;
}

static void out_of_memory(struct reader *reader)
{
	reader->report("out of memory", reader->arg);
	reader->rc = -ENOMEM;
}

/* ---- lines ---- */

static bool is_name(const char *text)
{
	size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_");
	return len && !text[len];
}

static void read_section(struct reader *reader, char *text)
{
	reader->section = NULL;
	reader->skip = true;
	char *end = strchr(text, ']');
	if (!end || end[1 + strspn(end + 1, " \t")]) {
		fault(reader, "a section is written [name] or [name label], alone on its line");
		return;
	}
	*end = '\0';
	char *name = text + 1 + strspn(text + 1, " \t");
	char *label = name + strcspn(name, " \t");
	if (*label) {
		*label++ = '\0';
		label += strspn(label, " \t");
	}
	for (size_t len = strlen(label); len && strchr(" \t", label[len - 1]); len--) {
		label[len - 1] = '\0';
	}
	if (!is_name(name)) {
		fault(reader, "'%s' is no section name: use a to z, 0 to 9 and _", name);
		return;
	}
	const struct conf_section *before = conf_find(reader->conf, name, *label ? label : NULL);
	if (before) {
		fault(reader, "[%s%s%s] is at %s:%u already; write its keys there", name, *label ? " " : "", label, before->file, before->line);
		return;
	}
	struct conf_section *section = calloc(1, sizeof(*section));
	if (!section || !(section->name = strdup(name)) || (*label && !(section->label = strdup(label)))) {
		free(section ? section->name : NULL);
		free(section);
		out_of_memory(reader);
		return;
	}
	section->file = reader->file;
	section->line = reader->line;
	*reader->conf->last = section;
	reader->conf->last = &section->next;
	reader->section = section;
	reader->skip = false;
}

/* Takes off what surrounds a value: a comment behind " ;", outer spaces, quotes. NULL: a quote is not closed. */
static char *trim_value(char *text)
{
	text += strspn(text, " \t");
	if (*text == '"') {
		char *end = strchr(text + 1, '"');
		size_t gap = end ? strspn(end + 1, " \t") : 0;
		if (!end || (end[1 + gap] && (end[1 + gap] != ';' || !gap))) {
			return NULL;
		}
		*end = '\0';
		return text + 1;
	}
	for (char *at = text; *at; at++) {
		if (*at == ';' && (at == text || at[-1] == ' ' || at[-1] == '\t')) {
			*at = '\0';
			break;
		}
	}
	for (size_t len = strlen(text); len && strchr(" \t", text[len - 1]); len--) {
		text[len - 1] = '\0';
	}
	return text;
}

static void read_entry(struct reader *reader, char *text)
{
	char *equals = strchr(text, '=');
	if (!equals) {
		fault(reader, "expected 'key = value', '[section]' or a comment");
		return;
	}
	*equals = '\0';
	for (size_t len = strlen(text); len && strchr(" \t", text[len - 1]); len--) {
		text[len - 1] = '\0';
	}
	char *value = trim_value(equals + 1);
	if (!*text || !value) {
		fault(reader, *text ? "a quoted value ends with a quote, and only a comment may follow" : "a key is missing before '='");
		return;
	}
	if (!reader->section) {
		if (!reader->skip) {
			fault(reader, "'%s' stands before any [section]", text);
		}
		return;
	}
	struct conf_entry *entry = calloc(1, sizeof(*entry));
	if (!entry || !(entry->key = strdup(text)) || !(entry->value = strdup(value))) {
		free(entry ? entry->key : NULL);
		free(entry);
		out_of_memory(reader);
		return;
	}
	entry->line = reader->line;
	struct conf_entry **last = &reader->section->entries;
	while (*last) {
		last = &(*last)->next;
	}
	*last = entry;
}

static void read_line(struct reader *reader, const char *text, size_t len)
{
	char line[LINE_MAX_BYTES + 1];
	if (len && text[len - 1] == '\r') {
		len--;
	}
	if (len > LINE_MAX_BYTES) {
		fault(reader, "the line is longer than %d bytes", LINE_MAX_BYTES);
		return;
	}
	memcpy(line, text, len);
	line[len] = '\0';
	if (strlen(line) != len || u8_check((const uint8_t *)line, len)) {
		fault(reader, "the line is not UTF-8 text");
		return;
	}
	size_t indent = strspn(line, " \t");
	if (!line[indent] || line[indent] == ';' || line[indent] == '#') {
		return;
	}
	if (indent) {
		fault(reader, "an indented line; there are no continuation lines: write 'key = value' at the line's start");
	} else if (*line == '[') {
		read_section(reader, line);
	} else {
		read_entry(reader, line);
	}
}

static const char *keep_name(struct conf *conf, const char *name)
{
	size_t size = strlen(name) + 1;
	struct conf_file *file = malloc(sizeof(*file) + size);
	if (!file) {
		return NULL;
	}
	memcpy(file->name, name, size);
	file->next = conf->files;
	conf->files = file;
	return file->name;
}

int conf_read_text(struct conf *conf, const char *name, const char *text, size_t len, conf_report_fn *report, void *arg)
{
	struct reader reader = { .conf = conf, .file = keep_name(conf, name), .report = report, .arg = arg };
	if (!reader.file) {
		return -ENOMEM;
	}
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		len -= 3;
	}
	while (len && reader.rc != -ENOMEM) {
		const char *end = memchr(text, '\n', len);
		size_t used = end ? (size_t)(end - text) : len;
		reader.line++;
		read_line(&reader, text, used);
		used += end ? 1 : 0;
		text += used;
		len -= used;
	}
	return reader.rc;
}

/* ---- files ---- */

static int cannot_read(const char *file, int rc, conf_report_fn *report, void *arg)
{
	char text[4400];
	snprintf(text, sizeof(text), "%.4096s: cannot be read: %s", file, rc == -EFBIG ? "it is larger than 1 MiB" : strerror(-rc));
	report(text, arg);
	return rc;
}

int conf_read_file(struct conf *conf, const char *file, conf_report_fn *report, void *arg)
{
	FILE *in = fopen(file, "re");
	if (!in) {
		return cannot_read(file, -errno, report, arg);
	}
	char *text = malloc(FILE_MAX + 1);
	errno = 0;
	size_t len = text ? fread(text, 1, FILE_MAX + 1, in) : 0;
	int rc = !text ? -ENOMEM : ferror(in) ? (errno ? -errno : -EIO) : len > FILE_MAX ? -EFBIG : 0;
	fclose(in);
	if (rc < 0) {
		cannot_read(file, rc, report, arg);
	} else {
		rc = conf_read_text(conf, file, text, len, report, arg);
	}
	free(text);
	return rc;
}

static int is_conf_file(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);
	return entry->d_name[0] != '.' && len > 5 && strcmp(entry->d_name + len - 5, ".conf") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

int conf_read_dir(struct conf *conf, const char *dir, conf_report_fn *report, void *arg)
{
	struct dirent **entries;
	int count = scandir(dir, &entries, is_conf_file, by_name);
	if (count < 0) {
		return cannot_read(dir, -errno, report, arg);
	}
	int rc = 0;
	for (int i = 0; i < count; i++) {
		char path[4096];
		int one = snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name) < (int)sizeof(path) ?
		                  conf_read_file(conf, path, report, arg) : -ENAMETOOLONG;
		rc = rc ? rc : one;
		free(entries[i]);
	}
	free(entries);
	return rc;
}

/* ---- matching ---- */

static const struct conf_entry *find_entry(const struct conf_section *section, const char *key, const struct conf_entry *until)
{
	const struct conf_entry *entry = section->entries;
	while (entry && entry != until && strcmp(entry->key, key) != 0) {
		entry = entry->next;
	}
	return entry == until ? NULL : entry;
}

static void apply_entry(struct reader *reader, const struct option_table *table, const struct conf_entry *entry, void *conf_struct,
                        const char *base_dir)
{
	const struct conf_section *section = reader->section;
	const struct stk_option *option = option_find(table, entry->key);
	const struct conf_entry *before = find_entry(section, entry->key, entry);
	char err[512];
	reader->line = entry->line;
	if (!option) {
		const char *nearest = option_nearest(table, entry->key);
		fault(reader, "unknown key '%s' in [%s]%s%s%s", entry->key, section->name, nearest ? "; did you mean '" : "",
		      nearest ? nearest : "", nearest ? "'?" : "");
	} else if (before) {
		fault(reader, "'%s' was set in line %u already", entry->key, before->line);
	} else if (option_set(option, conf_struct, entry->value, base_dir, err, sizeof(err)) < 0) {
		fault(reader, "%s", err);
	}
}

static bool is_required(const struct stk_option *option)
{
	bool text = option->type == STK_OPT_STR || option->type == STK_OPT_PATH || option->type == STK_OPT_LIST;
	return !option->dflt && !(text && option->min == 0);
}

int conf_apply(const struct conf_section *section, const struct option_table *table, void *conf_struct,
               conf_report_fn *report, void *arg)
{
	char err[512], dir[4096] = ".";
	if (option_defaults(table, conf_struct, err, sizeof(err)) < 0) {
		report(err, arg);
		return -EINVAL;
	}
	if (!section) {
		return 0;
	}
	snprintf(dir, sizeof(dir), "%s", section->file);
	struct reader reader = { .file = section->file, .report = report, .arg = arg };
	/* Only read through: faults name the section, nothing is added to it. */
	reader.section = (struct conf_section *)(uintptr_t)section;
	const char *base_dir = dirname(dir);
	for (const struct conf_entry *entry = section->entries; entry; entry = entry->next) {
		apply_entry(&reader, table, entry, conf_struct, base_dir);
	}
	const struct stk_option *option;
	for (size_t i = 0; (option = option_at(table, i)); i++) {
		if (is_required(option) && !find_entry(section, option->key, NULL)) {
			reader.line = section->line;
			fault(&reader, "[%s] lacks '%s': %s", section->name, option->key, option->help ? option->help : "it is required");
		}
	}
	return reader.rc;
}
