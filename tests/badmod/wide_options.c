/* SPDX-License-Identifier: MIT */
/* An option of it would be stored behind its configuration struct. */

#include "bad.h"

static int load(struct stk_module *module, const void *conf)
{
	(void)module;
	(void)conf;
	return 0;
}

struct conf {
	int64_t first, second;
};

static const struct stk_option options[] = {
	{ "first", STK_OPT_INT, offsetof(struct conf, first), "1", 0, 9, "A number", NULL },
	{ "second", STK_OPT_INT, offsetof(struct conf, second), "1", 0, 9, "A number", NULL },
	{ 0 },
};

STK_MODULE(.name = "wide_options", .options = options, .conf_size = sizeof(int64_t), .load = load);
