/* SPDX-License-Identifier: MIT */
/* Needs cycle_b, which needs it. */

#include "bad.h"

static int load(struct stk_module *module, const void *conf)
{
	(void)module;
	(void)conf;
	return 0;
}

static const char *const needs[] = { "cycle_b", NULL };

STK_MODULE(.name = "cycle_a", .needs = needs, .load = load);
