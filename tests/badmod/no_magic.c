/* SPDX-License-Identifier: MIT */
/* Its symbol is something else. */

#include "bad.h"

static int load(struct stk_module *module, const void *conf)
{
	(void)module;
	(void)conf;
	return 0;
}

STK_EXPORT extern const struct stk_module_def stk_module_def;
const struct stk_module_def stk_module_def = {
	.magic = 0x12345678,
	.abi_major = STK_ABI_MAJOR,
	.abi_minor = STK_ABI_MINOR,
	.size = sizeof(struct stk_module_def),
	.name = "no_magic",
	.load = load,
};
