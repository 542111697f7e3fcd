/* SPDX-License-Identifier: MIT */
/* Needs cycle_a, which needs it. */

#include "bad.h"

static int load(struct stk_module *module, const void *conf)
{
	(void)module;
	(void)conf;
	return 0;
}

static const char *const needs[] = { "cycle_a", NULL };

STK_MODULE(.name = "cycle_b", .needs = needs, .load = load);
