/* SPDX-License-Identifier: MIT */
/* Options: one table is parser, default, range and reference at once. Owns how values are written; which options there
 * are is said by the tables of the core's sections and of the modules. */

#include "core/option.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const struct stk_option *option_at(const struct option_table *table, size_t i)
{
	if (!table->options) {
		return NULL;
	}
	const struct stk_option *option = (const struct stk_option *)(const void *)((const char *)table->options + i * table->stride);
	return option->type == STK_OPT_END || !option->key ? NULL : option;
}

const struct stk_option *option_find(const struct option_table *table, const char *key)
{
	const struct stk_option *option;
	for (size_t i = 0; (option = option_at(table, i)); i++) {
		if (strcmp(option->key, key) == 0) {
			return option;
		}
	}
	return NULL;
}

#define NEAR_MAX 32 /* keys longer than this have no near ones */

/* Edits from A to B: one row of the usual table. */
static size_t distance(const char *a, const char *b)
{
	size_t row[NEAR_MAX + 1], len = strlen(b);
	if (strlen(a) > NEAR_MAX || len > NEAR_MAX) {
		return NEAR_MAX;
	}
	for (size_t j = 0; j <= len; j++) {
		row[j] = j;
	}
	for (size_t i = 1; a[i - 1]; i++) {
		size_t corner = row[0];
		row[0] = i;
		for (size_t j = 1; j <= len; j++) {
			size_t best = corner + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
			best = row[j] + 1 < best ? row[j] + 1 : best;
			best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
			corner = row[j];
			row[j] = best;
		}
	}
	return row[len];
}

const char *option_nearest(const struct option_table *table, const char *key)
{
	const char *nearest = NULL;
	size_t best = strlen(key) / 2 + 1;
	const struct stk_option *option;
	for (size_t i = 0; (option = option_at(table, i)); i++) {
		size_t edits = distance(key, option->key);
		if (edits < best) {
			best = edits;
			nearest = option->key;
		}
	}
	return nearest;
}

/* ---- values ---- */

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit times[] = { { "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { "h", 3600000 }, { "d", 86400000 }, { 0 } };
static const struct unit sizes[] = { { "B", 1 }, { "KiB", 1024 }, { "MiB", 1024 * 1024 }, { "GiB", 1024 * 1024 * 1024 }, { 0 } };

/* A whole number and a unit, which may be absent where BARE says what it then counts (0: must be there). */
static int parse_number(const char *text, const struct unit *units, int64_t bare, int64_t *out)
{
	char *end;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	if (errno || end == text || isspace((unsigned char)*text) || *text == '+') {
		return errno == ERANGE ? -ERANGE : -EINVAL;
	}
	end += strspn(end, " ");
	int64_t factor = *end ? 0 : number == 0 ? 1 : bare;
	for (; units && units->name && *end; units++) {
		if (strcmp(units->name, end) == 0) {
			factor = units->factor;
		}
	}
	if (!factor) {
		return -EINVAL;
	}
	return __builtin_mul_overflow((int64_t)number, factor, out) ? -ERANGE : 0;
}

static int parse_bool(const char *text, bool *out)
{
	static const char *const words[] = { "off", "on", "no", "yes", "false", "true", NULL };
	for (size_t i = 0; words[i]; i++) {
		if (strcasecmp(words[i], text) == 0) {
			*out = i & 1;
			return 0;
		}
	}
	return -EINVAL;
}

static void free_list(char **list)
{
	for (size_t i = 0; list && list[i]; i++) {
		free(list[i]);
	}
	free(list);
}

static char **parse_list(const char *text, size_t *count)
{
	size_t max = 2;
	for (const char *at = text; *at; at++) {
		max += *at == ',';
	}
	char **list = calloc(max, sizeof(*list));
	*count = 0;
	while (list && *text) {
		text += strspn(text, " \t,");
		size_t len = strcspn(text, ","), trimmed = len;
		while (trimmed && isspace((unsigned char)text[trimmed - 1])) {
			trimmed--;
		}
		if (trimmed && !(list[(*count)++] = strndup(text, trimmed))) {
			free_list(list);
			return NULL;
		}
		text += len;
	}
	return list;
}

static bool in_range(const struct stk_option *option, int64_t value)
{
	return (!option->min && !option->max) || (value >= option->min && value <= option->max);
}

static int refuse(const struct stk_option *option, int rc, const char *text, const char *what, char *err, size_t errlen)
{
	if (rc == -ERANGE && (option->min || option->max)) {
		snprintf(err, errlen, "%s: %s is out of range (%" PRId64 " to %" PRId64 "%s)", option->key, text, option->min,
		         option->max, option->type == STK_OPT_SECONDS ? " ms" : option->type == STK_OPT_BYTES ? " bytes" : "");
	} else if (rc == -ENOMEM) {
		snprintf(err, errlen, "%s: out of memory", option->key);
	} else {
		snprintf(err, errlen, "%s: '%s' is not %s", option->key, text, what);
	}
	return rc;
}

static int set_number(const struct stk_option *option, void *field, const char *text, char *err, size_t errlen)
{
	int64_t value;
	int rc;
	const char *what;
	switch (option->type) {
	case STK_OPT_SECONDS:
		rc = parse_number(text, times, 0, &value);
		what = "a duration such as 500ms, 30s, 5min, 2h or 1d";
		break;
	case STK_OPT_BYTES:
		rc = parse_number(text, sizes, 1, &value);
		what = "a size such as 4096, 64 KiB or 2 MiB";
		break;
	default:
		rc = parse_number(text, NULL, 1, &value);
		what = "a whole number";
		break;
	}
	rc = rc < 0 ? rc : in_range(option, value) ? 0 : -ERANGE;
	if (rc < 0) {
		return refuse(option, rc, text, what, err, errlen);
	}
	if (option->type == STK_OPT_SECONDS) {
		*(double *)field = (double)value / 1000.0;
	} else {
		*(int64_t *)field = value;
	}
	return 0;
}

static int set_string(const struct stk_option *option, void *field, const char *text, const char *base_dir, char *err, size_t errlen)
{
	if (!in_range(option, (int64_t)strlen(text))) {
		snprintf(err, errlen, "%s: must have %" PRId64 " to %" PRId64 " bytes", option->key, option->min, option->max);
		return -ERANGE;
	}
	char *copy = NULL;
	if (option->type == STK_OPT_PATH && *text != '/' && base_dir) {
		if (asprintf(&copy, "%s/%s", base_dir, text) < 0) {
			copy = NULL;
		}
	} else {
		copy = strdup(text);
	}
	if (!copy) {
		return refuse(option, -ENOMEM, text, "", err, errlen);
	}
	free(*(char **)field);
	*(char **)field = copy;
	return 0;
}

static int set_enum(const struct stk_option *option, int *field, const char *text, char *err, size_t errlen)
{
	for (int i = 0; option->names && option->names[i]; i++) {
		if (strcmp(option->names[i], text) == 0) {
			*field = i;
			return 0;
		}
	}
	size_t len = (size_t)snprintf(err, errlen, "%s: '%s' is none of", option->key, text);
	for (size_t i = 0; option->names && option->names[i] && len < errlen; i++) {
		len += (size_t)snprintf(err + len, errlen - len, "%s %s", i ? "," : "", option->names[i]);
	}
	return -EINVAL;
}

static int set_list(const struct stk_option *option, char ***field, const char *text, char *err, size_t errlen)
{
	size_t count;
	char **list = parse_list(text, &count);
	if (!list) {
		return refuse(option, -ENOMEM, text, "", err, errlen);
	}
	if (!in_range(option, (int64_t)count)) {
		free_list(list);
		snprintf(err, errlen, "%s: must name %" PRId64 " to %" PRId64 ", separated by commas", option->key, option->min, option->max);
		return -ERANGE;
	}
	free_list(*field);
	*field = list;
	return 0;
}

int option_set(const struct stk_option *option, void *conf, const char *text, const char *base_dir, char *err, size_t errlen)
{
	void *field = (char *)conf + option->offset;
	switch (option->type) {
	case STK_OPT_BOOL:
		if (parse_bool(text, field) < 0) {
			return refuse(option, -EINVAL, text, "on or off", err, errlen);
		}
		return 0;
	case STK_OPT_INT:
	case STK_OPT_SECONDS:
	case STK_OPT_BYTES: return set_number(option, field, text, err, errlen);
	case STK_OPT_STR:
	case STK_OPT_PATH: return set_string(option, field, text, base_dir, err, errlen);
	case STK_OPT_ENUM: return set_enum(option, field, text, err, errlen);
	case STK_OPT_LIST: return set_list(option, field, text, err, errlen);
	case STK_OPT_END: break;
	}
	snprintf(err, errlen, "%s: its option table has a type that this server does not know", option->key);
	return -EINVAL;
}

int option_defaults(const struct option_table *table, void *conf, char *err, size_t errlen)
{
	const struct stk_option *option;
	for (size_t i = 0; (option = option_at(table, i)); i++) {
		int rc = option->dflt ? option_set(option, conf, option->dflt, NULL, err, errlen) : 0;
		if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

void option_free(const struct option_table *table, void *conf)
{
	const struct stk_option *option;
	for (size_t i = 0; (option = option_at(table, i)); i++) {
		void *field = (char *)conf + option->offset;
		if (option->type == STK_OPT_STR || option->type == STK_OPT_PATH) {
			free(*(char **)field);
			*(char **)field = NULL;
		} else if (option->type == STK_OPT_LIST) {
			free_list(*(char ***)field);
			*(char ***)field = NULL;
		}
	}
}

/* ---- reference ---- */

void option_print_type(const struct stk_option *option, FILE *out)
{
	static const char *const types[] = {
		"", "on | off", "number", "duration", "size", "text", "path", "one of", "list",
	};
	fputs(types[option->type], out);
	for (size_t i = 0; option->type == STK_OPT_ENUM && option->names[i]; i++) {
		fprintf(out, "%s%s", i ? " | " : ": ", option->names[i]);
	}
}

bool option_is_required(const struct stk_option *option)
{
	bool may_be_absent = (option->type == STK_OPT_STR || option->type == STK_OPT_PATH) && !option->min;
	return !option->dflt && !may_be_absent;
}

static bool has_range(const struct stk_option *option)
{
	bool number = option->type == STK_OPT_INT || option->type == STK_OPT_BYTES || option->type == STK_OPT_SECONDS;
	return option->max && number;
}

void option_print_range(const struct stk_option *option, FILE *out)
{
	if (has_range(option)) {
		fprintf(out, "%" PRId64 " to %" PRId64 "%s", option->min, option->max,
		        option->type == STK_OPT_SECONDS ? " ms" : "");
	}
}

void option_help(const struct option_table *table, FILE *out)
{
	const struct stk_option *option;
	for (size_t i = 0; (option = option_at(table, i)); i++) {
		fprintf(out, "  %s = <", option->key);
		option_print_type(option, out);
		if (option->dflt) {
			fprintf(out, ">  (default: %s)", option->dflt);
		} else {
			fprintf(out, ">  (%s)", option_is_required(option) ? "required" : "no default");
		}
		fputs(has_range(option) ? "  " : "", out);
		option_print_range(option, out);
		fprintf(out, "\n      %s\n", option->help ? option->help : "");
	}
}

void option_dump(const struct option_table *table, const char *section, const char *what, FILE *out)
{
	const struct stk_option *option;
	fprintf(out, "%s\t\t\t\t\t\t%s\n", section, what);
	for (size_t i = 0; (option = option_at(table, i)); i++) {
		fprintf(out, "%s\t%s\t", section, option->key);
		option_print_type(option, out);
		fprintf(out, "\t%s\t%s\t", option_is_required(option) ? "required" : "optional", option->dflt ? option->dflt : "");
		option_print_range(option, out);
		fprintf(out, "\t%s\n", option->help ? option->help : "");
	}
}
