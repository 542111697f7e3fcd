/* SPDX-License-Identifier: MIT */
#ifndef STK_PROTO_CODEC_H
#define STK_PROTO_CODEC_H

#include <stddef.h>
#include <stdint.h>
#include <startalkd/stanza.h>

#include "core/buf.h"

/* Whose frame it is: who speaks on the wire. */
enum codec_side { CODEC_CLIENT, CODEC_SERVER };

struct check_limits;

/* What the codec needs to know of the connection. */
struct codec_context {
	const char *self;   /* the session's full JID (before bind the bare one), or NULL: supplies a missing from and to on server frames */
	int64_t now_ms;     /* for writing, the clock, ms since the epoch: receivedTime, time_value, time_key */
	size_t inflate_max; /* bound on an inflated ProtoMessage */
	enum codec_side side; /* who wrote the frame (decode), who writes it (encode) */
	const struct check_limits *limits; /* on what is decoded; NULL: those that proto/check has for the side */
};

/* Decodes one frame: IN, N bytes, is the ProtoHeader, without the length prefix. On 0 OUT is a new stanza (one reference,
 * the caller's), or NULL where the frame stands for nothing. The envelope's from is on the stanza as attribute "from" for messages
 * and notify presences only; ENVELOPE_FROM (may be NULL) gets a pointer into the stanza to the envelope's from, or NULL when it was absent or empty.
 * -EBADMSG: broken, WHY names the fault (constant text); -EMSGSIZE; -ENOMEM. */
int codec_decode(const struct codec_context *context, const uint8_t *in, size_t n, struct stk_stanza **out,
                 const char **envelope_from, const char **why) __attribute__((warn_unused_result));

/* Appends the frame that STANZA is on the wire, length prefix included; appends nothing where it has none. 0;
 * -EILSEQ: text that is not UTF-8; -EMSGSIZE: 2 MiB or more; -EINVAL: a stanza that the side never sends; -ENOMEM. */
int codec_encode(const struct codec_context *context, const struct stk_stanza *stanza, struct buf *out)
	__attribute__((warn_unused_result));

#endif
