/* SPDX-License-Identifier: MIT */
/* Frames to stanzas and back: the envelope, and which part of the codec reads and writes what is in it. Owns the table
 * of signal types and elements; the parts are in login.c, iq.c, result.c, general.c, presence.c and message.c. */

#include "proto/codec.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/check.h"
#include "proto/frame.h"
#include "proto/names.h"
#include "proto/pass.h"
#include "proto/wire.h"

#define FIRST_BLOCK 1024 /* beside its text a usual stanza takes no more */

/* Of ProtoMessage: */
enum { FIELD_SIGNAL = 2, FIELD_FROM = 3, FIELD_MESSAGE = 5, FIELD_SENDJID = 11 };

#define TEXTS (FIELD_SENDJID - FIELD_FROM) /* from to sendjid, but for the message between them */

enum { FROM_CLIENT = 1 << CODEC_CLIENT, FROM_SERVER = 1 << CODEC_SERVER, FROM_BOTH = FROM_CLIENT | FROM_SERVER };

struct kind {
	int32_t signal; /* 0: message, whose signals message.c knows */
	int element;
	unsigned sides; /* who sends it */
	const char *name, *xmlns;
	const ProtobufCMessageDescriptor *inner;
	int (*read)(struct reading *reading);
	int (*write)(struct writing *writing);
};

static const struct kind kinds[] = {
	{ STARTALK__SIGNAL_TYPE__SignalTypeIQ, STK_IQ, FROM_BOTH, "iq", NULL, &startalk__iqmessage__descriptor, iq_read,
	  iq_write },
	{ STARTALK__SIGNAL_TYPE__SignalTypePresence, STK_PRESENCE, FROM_BOTH, "presence", NULL,
	  &startalk__presence_message__descriptor, presence_read, presence_write },
	{ 0, STK_MESSAGE, FROM_BOTH, "message", NULL, &startalk__xmpp_message__descriptor, message_read,
	  message_write },
	{ STARTALK__SIGNAL_TYPE__SignalTypeWelcome, STANZA_STREAM, FROM_BOTH, "stream:stream", NS_CLIENT,
	  &startalk__welcome_message__descriptor, stream_read, stream_write },
	{ STARTALK__SIGNAL_TYPE__SignalStartTLS, STANZA_STARTTLS, FROM_CLIENT, "starttls", NS_TLS,
	  &startalk__start_tls__descriptor, starttls_read, starttls_write },
	{ STARTALK__SIGNAL_TYPE__SignalProceedTLS, STANZA_PROCEED, FROM_SERVER, "proceed", NS_TLS,
	  &startalk__proceed_tls__descriptor, proceed_read, proceed_write },
	{ STARTALK__SIGNAL_TYPE__SignalTypeAuth, STANZA_AUTH, FROM_CLIENT, "auth", NS_SASL,
	  &startalk__auth_message__descriptor, auth_read, auth_write },
	{ STARTALK__SIGNAL_TYPE__SignalTypeSucceededResponse, STANZA_SUCCESS, FROM_SERVER, "success", NS_SASL,
	  &startalk__response_succeeded__descriptor, success_read, success_write },
	{ STARTALK__SIGNAL_TYPE__SignalTypeFailureResponse, STANZA_FAILURE, FROM_SERVER, "failure", NS_SASL,
	  &startalk__response_failure__descriptor, failure_read, failure_write },
	{ STARTALK__SIGNAL_TYPE__SignalTypeStreamEnd, STANZA_STREAM_END, FROM_SERVER, "stream:end", NULL,
	  &startalk__stream_end__descriptor, stream_end_read, stream_end_write },
};

static const struct kind *find_signal(int32_t signal, enum codec_side side)
{
	const char *type;
	if (signal && message_signal(signal, side, &type)) {
		signal = 0;
	} else if (!signal) {
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (kinds[i].signal == signal) {
			return &kinds[i];
		}
	}
	return NULL;
}

static const struct check_limits *limits_of(const struct codec_context *context)
{
	return context->limits ? context->limits : context->side == CODEC_CLIENT ? &check_client : &check_server;
}

/* A ProtoMessage, its texts where they lie: a stanza that they shall live in is made only when all of it is known. */
struct envelope {
	Startalk__ProtoMessage pb;
	struct wire_field texts[TEXTS];
	unsigned has; /* the bit 1 << i says that there is texts[i] */
};

/* The field of envelope->pb that TEXTS[I] becomes; in the order of their numbers. */
static char **envelope_text(struct envelope *envelope, size_t i)
{
	Startalk__ProtoMessage *pb = &envelope->pb;
	char **const fields[TEXTS] = { &pb->from,       &pb->to,       &pb->realfrom,   &pb->realto,
				       &pb->originfrom, &pb->originto, &pb->origintype, &pb->sendjid };
	return fields[i];
}

static int open_envelope(const uint8_t *msg, size_t n, const struct check_limits *limits, struct envelope *envelope,
			 const char **why)
{
	int rc = check_message(&startalk__proto_message__descriptor, msg, n, limits, NULL, why);
	if (rc < 0) {
		return rc;
	}
	startalk__proto_message__init(&envelope->pb);
	envelope->has = 0;
	for (size_t pos = 0; pos < n;) {
		struct wire_field field;
		pos += wire_field(msg + pos, n - pos, &field);
		if (field.number == FIELD_SIGNAL) {
			envelope->pb.signaltype = (int32_t)(uint32_t)field.value;
		} else if (field.number == FIELD_MESSAGE) {
			envelope->pb.message.data = (uint8_t *)(uintptr_t)field.data;
			envelope->pb.message.len = field.len;
		} else if (field.number >= FIELD_FROM && field.number <= FIELD_SENDJID) {
			size_t i = field.number - FIELD_FROM - (field.number > FIELD_MESSAGE);
			envelope->texts[i] = field;
			envelope->has |= 1u << i;
		}
	}
	return 0;
}

static int keep_texts(struct envelope *envelope, struct arena *arena)
{
	for (size_t i = 0; i < TEXTS; i++) {
		const struct wire_field *text = &envelope->texts[i];
		if (envelope->has & 1u << i) {
			char *copy = arena_strndup(arena, (const char *)text->data, text->len);
			if (!copy) {
				return -ENOMEM;
			}
			*envelope_text(envelope, i) = copy;
		}
	}
	return 0;
}

static int read_inner(const struct kind *kind, struct reading *reading, struct envelope *envelope)
{
	struct arena *arena = stanza_arena(reading->stanza);
	ProtobufCMessage *inner;
	int rc = check_unpack(kind->inner, envelope->pb.message.data, envelope->pb.message.len,
			      limits_of(reading->context), arena, &inner, &reading->why);
	if (rc < 0) {
		return rc;
	}
	if (!(kind->sides & 1u << reading->context->side)) {
		return PASS_NOTHING;
	}
	rc = keep_texts(envelope, arena);
	if (rc < 0) {
		return rc;
	}
	reading->envelope = &envelope->pb;
	reading->message = inner;
	rc = kind->read(reading);
	if (rc == 0 && (reading->error || stanza_failed(reading->stanza))) {
		return reading->error ? reading->error : -ENOMEM;
	}
	return rc;
}

static int read_envelope(const struct codec_context *context, struct envelope *envelope, struct stk_stanza **out,
			 const char **why)
{
	const struct kind *kind = find_signal(envelope->pb.signaltype, context->side);
	if (!kind) {
		return 0;
	}
	/* Room for the unpacked message and the stanza's nodes: one malloc for what is usual. */
	struct stk_stanza *stanza =
		stanza_new(kind->element, kind->name, kind->xmlns, envelope->pb.message.len * 2 + FIRST_BLOCK);
	if (!stanza) {
		return -ENOMEM;
	}
	struct reading reading = { .context = context, .stanza = stanza, .root = stanza_root(stanza) };
	int rc = read_inner(kind, &reading, envelope);
	if (rc != 0) {
		stk_stanza_unref(stanza);
		*why = reading.why;
		return rc < 0 ? rc : 0;
	}
	*out = stanza;
	return 0;
}

int codec_decode(const struct codec_context *context, const uint8_t *in, size_t n, struct stk_stanza **out,
		 const char **envelope_from, const char **why)
{
	const char *unused_why;
	why = why ? why : &unused_why;
	*why = NULL;
	*out = NULL;
	if (envelope_from) {
		*envelope_from = NULL;
	}
	if (!n) {
		return 0; /* keep-alive of some implementations */
	}
	struct frame_room room;
	room.large = NULL;
	struct envelope envelope;
	const uint8_t *msg;
	size_t msg_len;
	int rc = frame_open(in, n, context->inflate_max, &room, &msg, &msg_len, why);
	if (rc == 0) {
		rc = open_envelope(msg, msg_len, limits_of(context), &envelope, why);
	}
	if (rc == 0) {
		rc = read_envelope(context, &envelope, out, why);
	}
	if (rc == 0 && *out && envelope_from) {
		*envelope_from = text_or_null(envelope.pb.from);
	}
	free(room.large);
	return rc;
}

int codec_encode(const struct codec_context *context, const struct stk_stanza *stanza, struct buf *out)
{
	int element = stanza_element(stanza);
	const struct kind *kind = NULL;
	for (size_t i = 0; i < ARRAY_LEN(kinds) && !kind; i++) {
		kind = kinds[i].element == element ? &kinds[i] : NULL;
	}
	if (!kind || !(kind->sides & 1u << context->side)) {
		return -EINVAL;
	}
	struct writing writing = { .context = context, .stanza = stanza, .root = stk_stanza_root(stanza), .out = out };
	startalk__proto_message__init(&writing.envelope);
	writing.envelope.has_options = true;
	writing.envelope.options = context->side == CODEC_CLIENT ? 5 : 0; /* noise, but what peers are used to */
	int rc = kind->write(&writing);
	arena_free(&writing.arena);
	return rc == PASS_NOTHING ? writing.error : rc;
}
