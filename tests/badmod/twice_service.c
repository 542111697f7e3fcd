/* SPDX-License-Identifier: MIT */
/* Offers what another module offers. */

#include "bad.h"

static int load(struct stk_module *module, const void *conf)
{
	static const uint32_t table = sizeof(table);
	(void)conf;
	return stk_provide(module, "users", 1, 0, &table);
}

STK_MODULE(.name = "twice_service", .load = load);
