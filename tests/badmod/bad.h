/* SPDX-License-Identifier: MIT */
#ifndef BADMOD_BAD_H
#define BADMOD_BAD_H

#include <errno.h>
#include <stddef.h>
#include <syslog.h>

#include <startalkd/module.h>

/* For the bad modules: FN answers IQ get of the namespace XMLNS. */
static inline int bad_answers(struct stk_module *module, const char *xmlns, stk_stanza_fn *fn)
{
	const struct stk_match match = { .size = sizeof(match), .element = STK_IQ, .type = "get", .xmlns = xmlns };
	return stk_handle(module, &match, fn, NULL);
}

#endif
