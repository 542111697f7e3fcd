/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_XML_H
#define STK_CORE_XML_H

#include <startalkd/stanza.h>

#include "core/buf.h"

/* Appends STANZA as one line of XML, without a newline at its end; line breaks and tabs inside are written as
 * character references. A stream header is left open, as on an XML stream. 0 or -ENOMEM. */
int xml_print(const struct stk_stanza *stanza, struct buf *out) __attribute__((warn_unused_result));

#endif
