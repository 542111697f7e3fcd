/* SPDX-License-Identifier: MIT */
/* The default of an option is out of its own range. */

#include "bad.h"

static int load(struct stk_module *module, const void *conf)
{
	(void)module;
	(void)conf;
	return 0;
}

static const struct stk_option options[] = {
	{ "size", STK_OPT_INT, 0, "10", 0, 9, "A number", NULL },
	{ 0 },
};

STK_MODULE(.name = "bad_default", .options = options, .conf_size = sizeof(int64_t), .load = load);
