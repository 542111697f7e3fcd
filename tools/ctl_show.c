/* SPDX-License-Identifier: MIT */
/* What startalkctl prints: sentences, tables, or the lines as they came. Owns how text from others is made harmless for
 * a terminal. */

#include "tools/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <unictype.h>
#include <unistr.h>
#include <uniwidth.h>

#define COLUMNS_MAX 9

/* Controls, formats such as changes of writing direction, line ends beyond ASCII, and what is no character. */
static bool is_harmful(ucs4_t character)
{
	return uc_is_general_category(character, UC_CATEGORY_C) || uc_is_general_category(character, UC_CATEGORY_Zl) ||
	       uc_is_general_category(character, UC_CATEGORY_Zp);
}

char *show_escape(const char *text)
{
	size_t left = strlen(text), len = 0;
	char *out = malloc(10 * left + 1);
	while (out && left) {
		ucs4_t character;
		int n = u8_mbtouc(&character, (const uint8_t *)text, left);
		bool broken = character == 0xfffd && memcmp(text, "\xef\xbf\xbd", left < 3 ? left : 3) != 0;
		if (broken || is_harmful(character)) {
			unsigned value = broken ? (unsigned char)*text : character;
			n = broken ? 1 : n;
			int digits = value < 0x100 ? 2 : value < 0x10000 ? 4 : 8;
			len += (size_t)sprintf(out + len, "\\%c%0*x", digits == 2 ? 'x' : digits == 4 ? 'u' : 'U', digits, value);
		} else {
			memcpy(out + len, text, (size_t)n);
			len += (size_t)n;
		}
		text += n;
		left -= (size_t)n;
	}
	if (out) {
		out[len] = '\0';
	}
	return out;
}

void show_begin(struct show *show, enum show_kind kind)
{
	static const char *const sessions[] = {
		"JID", "ADDRESS", "TLS", "AVAILABLE", "PRIORITY", "SHOW", "BOUND", NULL
	};
	static const char *const users[] = { "USER", "ENABLED", "PASSWORD", "SESSIONS", NULL };
	static const char *const modules[] = { "MODULE", "VERSION", "CALLS", "STANZAS", "MS",
					       "SLOW",	 "JOBS",    "NOW",   "LOST",	NULL };
	*show = (struct show){ .kind = kind };
	show->titles = kind == SHOW_SESSIONS ? sessions :
		       kind == SHOW_USERS    ? users :
		       kind == SHOW_STATUS   ? modules :
					       NULL;
	show->columns = kind == SHOW_HELP ? 2 : 0;
	while (show->titles && show->titles[show->columns]) {
		show->columns++;
	}
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

static long long number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static const char *yes_or_no(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key)) ? "yes" : "no";
}

/* One line of text. 0 or -ENOMEM. */
static int print(const char *prefix, const char *text)
{
	char *escaped = show_escape(text);
	int rc = escaped ? 0 : -ENOMEM;
	if (escaped) {
		printf("%s%s\n", prefix, escaped);
	}
	free(escaped);
	return rc;
}

/* ---- tables ---- */

/* TEXTS has a text for each column. */
static int add_row(struct show *show, const char *const *texts)
{
	if (show->count == show->cap) {
		size_t cap = show->cap ? 2 * show->cap : 64;
		char ***rows = realloc(show->rows, cap * sizeof(*rows));
		if (!rows) {
			return -ENOMEM;
		}
		show->rows = rows;
		show->cap = cap;
	}
	char **row = calloc(show->columns, sizeof(*row));
	if (!row) {
		return -ENOMEM;
	}
	show->rows[show->count++] = row;
	for (size_t i = 0; i < show->columns; i++) {
		row[i] = show_escape(texts[i]);
		if (!row[i]) {
			return -ENOMEM;
		}
	}
	return 0;
}

static int width_of(const char *text)
{
	int width = u8_strwidth((const uint8_t *)text, "UTF-8");
	return width > 0 ? width : 0;
}

static void print_row(const struct show *show, const char *const *row, const int *widths)
{
	for (size_t i = 0; i < show->columns; i++) {
		bool last = i + 1 == show->columns;
		printf("%s%*s%s", row[i], last ? 0 : widths[i] - width_of(row[i]), "", last ? "\n" : "  ");
	}
}

static void print_table(const struct show *show)
{
	int widths[COLUMNS_MAX] = { 0 };
	for (size_t i = 0; i < show->columns; i++) {
		widths[i] = show->titles ? width_of(show->titles[i]) : 0;
		for (size_t j = 0; j < show->count; j++) {
			int width = width_of(show->rows[j][i]);
			widths[i] = width > widths[i] ? width : widths[i];
		}
	}
	if (show->titles) {
		print_row(show, show->titles, widths);
	}
	for (size_t j = 0; j < show->count; j++) {
		print_row(show, (const char *const *)show->rows[j], widths);
	}
}

static int add_session(struct show *show, const json_t *object)
{
	char priority[24], bound[32] = "";
	time_t seconds = (time_t)(number_of(object, "bound") / 1000);
	struct tm tm;
	snprintf(priority, sizeof(priority), "%lld", number_of(object, "priority"));
	if (gmtime_r(&seconds, &tm)) {
		strftime(bound, sizeof(bound), "%Y-%m-%dT%H:%M:%SZ", &tm);
	}
	const char *const row[] = { text_of(object, "jid"),
				    text_of(object, "address"),
				    yes_or_no(object, "tls"),
				    yes_or_no(object, "available"),
				    priority,
				    text_of(object, "show"),
				    bound };
	return add_row(show, row);
}

static int add_user(struct show *show, const json_t *object)
{
	char sessions[24];
	snprintf(sessions, sizeof(sessions), "%lld", number_of(object, "sessions"));
	const char *const row[] = { text_of(object, "user"), yes_or_no(object, "enabled"), text_of(object, "password"),
				    sessions };
	return add_row(show, row);
}

static int add_help(struct show *show, const json_t *object)
{
	const char *const row[] = { text_of(object, "usage"), text_of(object, "help") };
	return add_row(show, row);
}

/* ---- sentences ---- */

static void format_duration(long long seconds, char *out, size_t size)
{
	long long days = seconds / 86400, hours = seconds / 3600 % 24, minutes = seconds / 60 % 60;
	if (days) {
		snprintf(out, size, "%lld d %lld h", days, hours);
	} else if (hours) {
		snprintf(out, size, "%lld h %lld min", hours, minutes);
	} else if (minutes) {
		snprintf(out, size, "%lld min %lld s", minutes, seconds % 60);
	} else {
		snprintf(out, size, "%lld s", seconds);
	}
}

static int add_module(struct show *show, const json_t *object)
{
	static const char *const keys[] = { "calls", "stanzas", NULL, "slow", "jobs", "jobs-under-way", "jobs-lost" };
	enum { KEYS = sizeof(keys) / sizeof(*keys) };
	char numbers[KEYS][32];
	const char *row[2 + KEYS] = { text_of(object, "name"), text_of(object, "version") };
	for (size_t i = 0; i < KEYS; i++) {
		if (keys[i]) {
			snprintf(numbers[i], sizeof(numbers[i]), "%lld", number_of(object, keys[i]));
		} else {
			snprintf(numbers[i], sizeof(numbers[i]), "%.1f", (double)number_of(object, "microseconds") / 1000);
		}
		row[2 + i] = numbers[i];
	}
	return add_row(show, row);
}

/* NAME VALUE */
static int print_metric(const json_t *object)
{
	char *line = NULL;
	int rc = asprintf(&line, "%s %lld", text_of(object, "name"), number_of(object, "value")) < 0 ? -ENOMEM : print("", line);
	free(line);
	return rc;
}

/* The objects of an array as "A B, A B". */
static void print_pairs(const char *title, const json_t *array, const char *first, const char *infix,
			const char *second)
{
	size_t i;
	json_t *object;
	printf("%s", title);
	json_array_foreach (array, i, object) {
		char *a = show_escape(text_of(object, first)), *b = show_escape(text_of(object, second));
		printf("%s%s%s%s", i ? ", " : "", a ? a : "?", infix, b ? b : "?");
		free(a);
		free(b);
	}
	putchar('\n');
}

static int print_status(struct show *show, const json_t *object)
{
	size_t i;
	json_t *module;
	int rc = 0;
	char uptime[64];
	format_duration(number_of(object, "uptime"), uptime, sizeof(uptime));
	printf("version      %s\n", text_of(object, "version"));
	printf("process      %lld, up %s, %.1f MiB\n", number_of(object, "pid"), uptime,
	       (double)number_of(object, "memory") / 1048576);
	print_pairs("listens      ", json_object_get(object, "listeners"), "address", " tls ", "tls");
	printf("connections  %lld\n", number_of(object, "connections"));
	printf("sessions     %lld of %lld users\n", number_of(object, "sessions"), number_of(object, "users"));
	json_array_foreach (json_object_get(object, "modules"), i, module) {
		rc = rc < 0 ? rc : add_module(show, module);
	}
	putchar('\n'); /* the table follows */
	return rc;
}

static int print_finding(const json_t *object)
{
	const char *finding = text_of(object, "finding");
	if (strcmp(text_of(object, "check"), "verdict") == 0) {
		return print("\n", text_of(object, "text"));
	}
	bool bad = strcmp(finding, "bad") == 0, note = strcmp(finding, "note") == 0;
	return print(bad ? "PROBLEM  " : note ? "note     " : "ok       ", text_of(object, "text"));
}

/* NAME VALUE, one a line. */
static int print_members(const json_t *object)
{
	const char *key;
	json_t *member;
	int rc = 0;
	json_object_foreach ((json_t *)(uintptr_t)object, key, member) {
		char *value = json_is_string(member) ? NULL : json_dumps(member, JSON_COMPACT | JSON_ENCODE_ANY), *line = NULL;
		int len = asprintf(&line, "%-12s %s", key, value ? value : text_of(object, key));
		rc = len < 0 || print("", line) < 0 ? -ENOMEM : rc;
		free(value);
		free(len < 0 ? NULL : line);
	}
	return rc;
}

/* What is for people, or the line as it came, which a terminal gets escaped. */
static int print_line(const char *line, const json_t *object)
{
	const json_t *text = json_object_get(object, "text");
	if (json_is_string(text)) {
		return print("", json_string_value(text));
	}
	if (isatty(STDOUT_FILENO)) {
		return print("", line);
	}
	puts(line);
	return 0;
}

int show_line(struct show *show, const char *line, const json_t *object)
{
	switch (show->kind) {
	case SHOW_LINES: return print_line(line, object);
	case SHOW_JSON: puts(line); return 0;
	case SHOW_MEMBERS: return print_members(object);
	case SHOW_HELP: return add_help(show, object);
	case SHOW_STATUS: return print_status(show, object);
	case SHOW_METRICS: return print_metric(object);
	case SHOW_SESSIONS: return add_session(show, object);
	case SHOW_USERS: return add_user(show, object);
	case SHOW_DOCTOR: return print_finding(object);
	}
	return 0;
}

void show_end(struct show *show)
{
	if (show->count) {
		print_table(show);
	} else if (show->kind == SHOW_SESSIONS || show->kind == SHOW_USERS) {
		puts(show->kind == SHOW_SESSIONS ? "no sessions" : "no users");
	}
	for (size_t j = 0; j < show->count; j++) {
		for (size_t i = 0; i < show->columns; i++) {
			free(show->rows[j][i]);
		}
		free(show->rows[j]);
	}
	free(show->rows);
	*show = (struct show){ 0 };
}
