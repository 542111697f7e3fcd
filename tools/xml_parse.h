/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_XML_PARSE_H
#define STK_TOOLS_XML_PARSE_H

#include <stddef.h>
#include <startalkd/stanza.h>

/* The stanza that TEXT, N bytes of XML, is: one element; a stream header may be left open. White space between elements
 * does not count. 0, -EINVAL and WHY (of static duration, overwritten by the next call), or -ENOMEM. Not thread-safe.
 */
int xml_parse(const char *text, size_t n, struct stk_stanza **out, const char **why)
	__attribute__((warn_unused_result));

#endif
