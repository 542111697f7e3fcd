/* SPDX-License-Identifier: MIT */
/* Its table of options has a wrong stride. */

#include "bad.h"

static int load(struct stk_module *module, const void *conf)
{
	(void)module;
	(void)conf;
	return 0;
}

static const struct stk_option options[] = {
	{ "size", STK_OPT_INT, 0, "1", 0, 9, "A number", NULL },
	{ 0 },
};

STK_EXPORT extern const struct stk_module_def stk_module_def;
const struct stk_module_def stk_module_def = {
	.magic = STK_ABI_MAGIC,
	.abi_major = STK_ABI_MAJOR,
	.abi_minor = STK_ABI_MINOR,
	.size = sizeof(struct stk_module_def),
	.name = "narrow_options",
	.options = options,
	.option_size = 0,
	.conf_size = 8,
	.load = load,
};
