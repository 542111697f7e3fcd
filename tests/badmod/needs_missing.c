/* SPDX-License-Identifier: MIT */
/* Needs a module that is not enabled. */

#include "bad.h"

static int load(struct stk_module *module, const void *conf)
{
	(void)module;
	(void)conf;
	return 0;
}

static const char *const needs[] = { "nosuch", NULL };

STK_MODULE(.name = "needs_missing", .needs = needs, .load = load);
