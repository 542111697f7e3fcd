/* SPDX-License-Identifier: MIT */
/* Good: cannot be without the module ping. */

#include "bad.h"

static int load(struct stk_module *module, const void *conf)
{
	(void)module;
	(void)conf;
	return 0;
}

static const char *const needs[] = { "ping", NULL };

STK_MODULE(.name = "needs_ping", .needs = needs, .load = load);
