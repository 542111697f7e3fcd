/* SPDX-License-Identifier: MIT */
/* A module for the tests that is built twice, with another VERSION each time. */

#include <startalkd/module.h>

static int load(struct stk_module *module, const void *conf)
{
	(void)module;
	(void)conf;
	return 0;
}

STK_MODULE(.name = "counter", .version = VERSION, .load = load);
