/* SPDX-License-Identifier: MIT */
/* Keeps the archive within its bounds. */

#include "archive.h"

int keeper_init(struct stk_module *module)
{
	(void)module;
	return 0;
}

void keeper_fini(struct state *state)
{
	(void)state;
}
