/* SPDX-License-Identifier: MIT */
/* Its file has another name than itself. */

#include "bad.h"

static int load(struct stk_module *module, const void *conf)
{
	(void)module;
	(void)conf;
	return 0;
}

STK_MODULE(.name = "somebody", .load = load);
