/* SPDX-License-Identifier: MIT */
/* Fuzz target: any text as a configuration file, matched with a table that has an option of every type. */

#include <stddef.h>
#include <stdint.h>

#include "core/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct all {
	bool on;
	int64_t number, size;
	double time;
	const char *text, *path;
	int choice;
	const char *const *list;
};

static const char *const choices[] = { "first", "second", NULL };

static const struct stk_option options[] = {
	{ "on", STK_OPT_BOOL, offsetof(struct all, on), "off", 0, 0, "A switch", NULL },
	{ "number", STK_OPT_INT, offsetof(struct all, number), "3", -5, 100, "A number", NULL },
	{ "size", STK_OPT_BYTES, offsetof(struct all, size), "4 KiB", 0, 1 << 30, "A size", NULL },
	{ "time", STK_OPT_SECONDS, offsetof(struct all, time), "30s", 0, 86400000, "A duration", NULL },
	{ "text", STK_OPT_STR, offsetof(struct all, text), NULL, 0, 100, "A text", NULL },
	{ "path", STK_OPT_PATH, offsetof(struct all, path), NULL, 0, 100, "A path", NULL },
	{ "choice", STK_OPT_ENUM, offsetof(struct all, choice), "first", 0, 0, "A choice", choices },
	{ "list", STK_OPT_LIST, offsetof(struct all, list), NULL, 0, 5, "A list", NULL },
	{ 0 },
};

static void ignore(const char *fault, void *arg)
{
	(void)fault;
	(void)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct option_table table = { .options = options, .stride = sizeof(*options) };
	struct conf *conf = conf_new();
	if (!conf) {
		return 0;
	}
	(void)conf_read_text(conf, "fuzz.conf", (const char *)data, size, ignore, NULL);
	for (const struct conf_section *section = conf_sections(conf); section; section = section->next) {
		struct all all = { 0 };
		(void)conf_apply(section, &table, &all, ignore, NULL);
		option_free(&table, &all);
	}
	conf_free(&conf);
	return 0;
}
