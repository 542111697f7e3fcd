/* SPDX-License-Identifier: MIT */
/* Needs a function that no server has. */

#include "bad.h"

int stk_from_the_future(struct stk_module *module);

static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	return stk_from_the_future(module);
}

STK_MODULE(.name = "missing_symbol", .load = load);
