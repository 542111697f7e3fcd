/* SPDX-License-Identifier: MIT */
/* Built for the module API before this one. */

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
	.abi_major = STK_ABI_MAJOR - 1,
	.abi_minor = STK_ABI_MINOR,
	.size = sizeof(struct stk_module_def),
	.name = "old_major",
	.load = load,
};
