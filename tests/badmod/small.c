/* SPDX-License-Identifier: MIT */
/* Its definition ends before it has all that the first version had. */

#include "bad.h"

static int load(struct stk_module *module, const void *conf)
{
	(void)module;
	(void)conf;
	return 0;
}

STK_EXPORT extern const struct stk_module_def stk_module_def;
const struct stk_module_def stk_module_def = {
	.magic = STK_ABI_MAGIC,
	.abi_major = STK_ABI_MAJOR,
	.abi_minor = STK_ABI_MINOR,
	.size = offsetof(struct stk_module_def, load),
	.name = "small",
	.load = load,
};
