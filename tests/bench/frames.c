/* SPDX-License-Identifier: MIT */
/* Frames as the load generator needs them: built once as stencils in which only tokens change, and read field by
 * field without unpacking. It knows just the frames that a load consists of; what the protocol allows beyond is
 * proto/'s. */

#include "tests/bench/frames.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/tea.h"
#include "proto/wire.h"
#include "tests/bench/bench.h"

#define TEA_MAX 200
#define OPTION_GZIP 1
#define OPTION_TEA 5
#define CLIENT_VERSION 200012

/* Field numbers. */
enum { HEADER_OPTIONS = 2, HEADER_MESSAGE = 6 };
enum { PROTO_OPTIONS = 1, PROTO_SIGNAL = 2, PROTO_FROM = 3, PROTO_TO = 4, PROTO_MESSAGE = 5 };
enum { WELCOME_DOMAIN = 1, WELCOME_VERSION = 2, WELCOME_USER = 3 };
enum { AUTH_MECHANISM = 1, AUTH_MSG_ID = 3, AUTH_KEY = 4 };
enum { IQ_KEY = 2, IQ_VALUE = 3, IQ_ID = 4, IQ_DEFINED_KEY = 11 };
enum {
	PRESENCE_KEY = 2,
	PRESENCE_VALUE = 3,
	PRESENCE_ID = 4,
	PRESENCE_BODY = 6,
	PRESENCE_DEFINED_KEY = 11,
	PRESENCE_CATEGORY = 12
};
enum { XMPP_TYPE = 1, XMPP_CLIENT = 2, XMPP_VERSION = 3, XMPP_ID = 7, XMPP_BODY = 9, XMPP_RECEIVED = 10 };
enum { BODY_HEADERS = 1, BODY_VALUE = 2 };
enum { STRING_VALUE = 3, STRING_DEFINED_KEY = 4 };

static const char hole[TOKEN_LEN + 1] = "TTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTT";

void codec_init(struct codec *codec)
{
	*codec = (struct codec){ .plain = malloc(FRAME_MAX) };
	/* Small windows: messages are small, and setting up anew for each is what costs. */
	if (!codec->plain || inflateInit2(&codec->inflate, 15 + 16) != Z_OK ||
	    deflateInit2(&codec->deflate, 1, Z_DEFLATED, 9 + 16, 1, Z_DEFAULT_STRATEGY) != Z_OK) {
		die("out of memory");
	}
}

void codec_fini(struct codec *codec)
{
	inflateEnd(&codec->inflate);
	deflateEnd(&codec->deflate);
	free(codec->plain);
	buf_fini(&codec->inner);
	buf_fini(&codec->msg);
	buf_fini(&codec->out);
}

/* ---- writing ---- */

static void put(struct buf *buf, const void *data, size_t n)
{
	if (buf_append(buf, data, n) < 0) {
		die("out of memory");
	}
}

static void clear(struct buf *buf)
{
	buf_consume(buf, buf->len);
}

static void put_varint(struct buf *buf, uint64_t value)
{
	uint8_t bytes[WIRE_VARINT_MAX];
	size_t n = 0;
	for (; value > 0x7f; value >>= 7) {
		bytes[n++] = (uint8_t)(value | 0x80);
	}
	bytes[n++] = (uint8_t)value;
	put(buf, bytes, n);
}

static void put_int(struct buf *buf, unsigned number, uint64_t value)
{
	put_varint(buf, number << 3 | WIRE_VARINT);
	put_varint(buf, value);
}

static void put_data(struct buf *buf, unsigned number, const void *data, size_t n)
{
	put_varint(buf, number << 3 | WIRE_BYTES);
	put_varint(buf, n);
	put(buf, data, n);
}

static void put_text(struct buf *buf, unsigned number, const char *text)
{
	put_data(buf, number, text, strlen(text));
}

/* A MessageBody whose text is one or two pieces. */
static void put_body(struct buf *buf, unsigned number, const char *text, const char *more)
{
	struct buf body = { 0 };
	size_t n = strlen(text), rest = strlen(more);
	put_varint(&body, BODY_VALUE << 3 | WIRE_BYTES);
	put_varint(&body, n + rest);
	put(&body, text, n);
	put(&body, more, rest);
	put_data(buf, number, buf_data(&body), body.len);
	buf_fini(&body);
}

/* Makes codec->msg, the ProtoMessage around codec->inner. */
static void envelop(struct codec *codec, enum signal_type signal, const char *from, const char *to)
{
	struct buf *msg = &codec->msg;
	clear(msg);
	put_int(msg, PROTO_OPTIONS, OPTION_TEA);
	put_int(msg, PROTO_SIGNAL, signal);
	if (from) {
		put_text(msg, PROTO_FROM, from);
	}
	if (to) {
		put_text(msg, PROTO_TO, to);
	}
	put_data(msg, PROTO_MESSAGE, codec->inner.len ? (const void *)buf_data(&codec->inner) : "", codec->inner.len);
}

/* Writes everything of a frame but the N hidden bytes, which come last; returns where they go. */
static size_t put_head(struct buf *frame, unsigned options, size_t n)
{
	uint8_t length[WIRE_VARINT_MAX];
	size_t digits = 0;
	for (size_t left = n;; left >>= 7) {
		length[digits++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
		if (left <= 0x7f) {
			break;
		}
	}
	clear(frame);
	put_varint(frame, (options ? 2 : 0) + 1 + digits + n);
	if (options) {
		put_int(frame, HEADER_OPTIONS, options);
	}
	put_varint(frame, HEADER_MESSAGE << 3 | WIRE_BYTES);
	put(frame, length, digits);
	return frame->len;
}

static void reserve(struct buf *buf, size_t n)
{
	if (!buf_reserve(buf, n)) {
		die("out of memory");
	}
}

static struct view whole(const struct buf *buf)
{
	return (struct view){ .data = buf_data(buf), .len = buf->len };
}

/* A frame of MSG by gzip, in codec->out. */
static struct view gzip_frame(struct codec *codec, const struct buf *msg)
{
	struct buf *packed = &codec->inner; /* done with by now */
	z_stream *stream = &codec->deflate;
	deflateReset(stream);
	clear(packed);
	size_t room = deflateBound(stream, msg->len);
	reserve(packed, room);
	stream->next_in = buf_data(msg);
	stream->avail_in = (uInt)msg->len;
	stream->next_out = buf_data(packed);
	stream->avail_out = (uInt)room;
	if (deflate(stream, Z_FINISH) != Z_STREAM_END) {
		die("zlib: cannot compress");
	}
	buf_grew(packed, room - stream->avail_out);
	put_head(&codec->out, OPTION_GZIP, packed->len);
	put(&codec->out, buf_data(packed), packed->len);
	return whole(&codec->out);
}

static struct view small_frame(struct codec *codec)
{
	const struct buf *msg = &codec->msg;
	if (msg->len > TEA_MAX) {
		return gzip_frame(codec, msg);
	}
	put_head(&codec->out, OPTION_TEA, msg->len);
	reserve(&codec->out, msg->len);
	tea_encrypt(buf_data(msg), msg->len, buf_data(&codec->out) + codec->out.len);
	buf_grew(&codec->out, msg->len);
	return whole(&codec->out);
}

/* ---- frames of a login ---- */

struct view frame_welcome(struct codec *codec, const char *domain, const char *user)
{
	clear(&codec->inner);
	put_text(&codec->inner, WELCOME_DOMAIN, domain);
	put_text(&codec->inner, WELCOME_VERSION, "1.0");
	put_text(&codec->inner, WELCOME_USER, user);
	envelop(codec, SIGNAL_WELCOME, NULL, NULL);
	return small_frame(codec);
}

struct view frame_starttls(struct codec *codec)
{
	clear(&codec->inner);
	envelop(codec, SIGNAL_STARTTLS, NULL, NULL);
	return small_frame(codec);
}

struct view frame_auth(struct codec *codec, const char *from, const char *auth_key)
{
	clear(&codec->inner);
	put_text(&codec->inner, AUTH_MECHANISM, "PLAIN");
	put_text(&codec->inner, AUTH_MSG_ID, "auth");
	put_text(&codec->inner, AUTH_KEY, auth_key);
	envelop(codec, SIGNAL_AUTH, from, NULL);
	return small_frame(codec);
}

struct view frame_bind(struct codec *codec, const char *resource)
{
	clear(&codec->inner);
	put_text(&codec->inner, IQ_KEY, "BIND");
	put_text(&codec->inner, IQ_VALUE, resource);
	put_text(&codec->inner, IQ_ID, "bind");
	envelop(codec, SIGNAL_IQ, NULL, NULL);
	return small_frame(codec);
}

struct view frame_priority(struct codec *codec, const char *from)
{
	clear(&codec->inner);
	put_text(&codec->inner, PRESENCE_KEY, "priority");
	put_text(&codec->inner, PRESENCE_VALUE, "5");
	put_int(&codec->inner, PRESENCE_DEFINED_KEY, 1);
	envelop(codec, SIGNAL_PRESENCE, from, NULL);
	return small_frame(codec);
}

static void make_ping(struct codec *codec, const char *from, const char *id)
{
	clear(&codec->inner);
	put_text(&codec->inner, IQ_KEY, "PING");
	put_text(&codec->inner, IQ_ID, id);
	put_int(&codec->inner, IQ_DEFINED_KEY, 50);
	envelop(codec, SIGNAL_IQ, from, NULL);
}

struct view frame_ping(struct codec *codec, const char *from, const char *id)
{
	make_ping(codec, from, id);
	return small_frame(codec);
}

/* ---- stencils ---- */

/* Takes over codec->msg. */
static void make_stencil(struct codec *codec, struct stencil *stencil, enum wrap_kind wrap)
{
	*stencil = (struct stencil){ .msg = codec->msg };
	codec->msg = (struct buf){ 0 };
	size_t n = stencil->msg.len;
	uint8_t *msg = buf_data(&stencil->msg);
	for (uint8_t *at = msg; (at = memmem(at, n - (size_t)(at - msg), hole, TOKEN_LEN)); at += TOKEN_LEN) {
		stencil->token_at[stencil->tokens++] = (size_t)(at - msg);
	}
	stencil->wrap = wrap != WRAP_AUTO ? wrap : n <= TEA_MAX ? WRAP_TEA : WRAP_GZIP;
	if (stencil->wrap == WRAP_GZIP) {
		return; /* built anew for each token */
	}
	stencil->hidden_at = put_head(&stencil->frame, stencil->wrap == WRAP_TEA ? OPTION_TEA : 0, n);
	put(&stencil->frame, msg, n);
	if (stencil->wrap == WRAP_TEA) {
		tea_encrypt(msg, n, buf_data(&stencil->frame) + stencil->hidden_at);
	}
}

void stencil_chat(struct codec *codec, struct stencil *stencil, enum wrap_kind wrap, const char *from, const char *to,
		  const char *text)
{
	struct buf *inner = &codec->inner;
	clear(inner);
	put_int(inner, XMPP_TYPE, 1);
	put_int(inner, XMPP_CLIENT, 3);
	put_int(inner, XMPP_VERSION, CLIENT_VERSION);
	put_text(inner, XMPP_ID, hole);
	put_body(inner, XMPP_BODY, text, "");
	put_int(inner, XMPP_RECEIVED, 0);
	envelop(codec, SIGNAL_CHAT, from, to);
	make_stencil(codec, stencil, wrap);
}

void stencil_notify(struct codec *codec, struct stencil *stencil, enum wrap_kind wrap, const char *from, const char *to,
		    const char *text)
{
	struct buf *inner = &codec->inner;
	clear(inner);
	put_text(inner, PRESENCE_KEY, "notify");
	put_text(inner, PRESENCE_ID, "n");
	put_body(inner, PRESENCE_BODY, hole, text);
	put_int(inner, PRESENCE_DEFINED_KEY, 7);
	put_int(inner, PRESENCE_CATEGORY, 7);
	envelop(codec, SIGNAL_PRESENCE, from, to);
	make_stencil(codec, stencil, wrap);
}

void stencil_mark(struct codec *codec, struct stencil *stencil, enum wrap_kind wrap, const char *from, const char *to)
{
	struct buf *inner = &codec->inner, header = { 0 }, body = { 0 };
	char text[TOKEN_LEN + 16];
	snprintf(text, sizeof(text), "[{\"id\":\"%s\"}]", hole);
	put_text(&header, STRING_VALUE, "3");
	put_int(&header, STRING_DEFINED_KEY, 5);
	put_data(&body, BODY_HEADERS, buf_data(&header), header.len);
	put_text(&body, BODY_VALUE, text);
	clear(inner);
	put_int(inner, XMPP_TYPE, 0);
	put_int(inner, XMPP_CLIENT, 3);
	put_int(inner, XMPP_VERSION, 0);
	put_text(inner, XMPP_ID, hole);
	put_data(inner, XMPP_BODY, buf_data(&body), body.len);
	buf_fini(&header);
	buf_fini(&body);
	envelop(codec, SIGNAL_READMARK, from, to);
	make_stencil(codec, stencil, wrap);
}

void stencil_ping(struct codec *codec, struct stencil *stencil, enum wrap_kind wrap, const char *from)
{
	make_ping(codec, from, hole);
	make_stencil(codec, stencil, wrap);
}

/* Hides the part of the message that a token lies in. Blocks are hidden each by itself, so no others change. */
static void hide_token(struct stencil *stencil, size_t token_at)
{
	size_t first = token_at & ~(size_t)7, end = (token_at + TOKEN_LEN + 7) & ~(size_t)7;
	end = end < stencil->msg.len ? end : stencil->msg.len;
	const uint8_t *msg = buf_data(&stencil->msg);
	uint8_t *hidden = buf_data(&stencil->frame) + stencil->hidden_at;
	if (stencil->wrap == WRAP_TEA) {
		tea_encrypt(msg + first, end - first, hidden + first);
	} else {
		memcpy(hidden + first, msg + first, end - first);
	}
}

struct view stencil_stamp(struct codec *codec, struct stencil *stencil, const struct token *tokens)
{
	for (size_t i = 0; i < stencil->tokens; i++) {
		token_write(&tokens[i], buf_data(&stencil->msg) + stencil->token_at[i]);
	}
	if (stencil->wrap == WRAP_GZIP) {
		return gzip_frame(codec, &stencil->msg);
	}
	for (size_t i = 0; i < stencil->tokens; i++) {
		hide_token(stencil, stencil->token_at[i]);
	}
	return whole(&stencil->frame);
}

void stencil_fini(struct stencil *stencil)
{
	buf_fini(&stencil->msg);
	buf_fini(&stencil->frame);
}

/* ---- tokens ---- */

static void put_hex(uint8_t *out, unsigned digits, uint64_t value)
{
	while (digits--) {
		out[digits] = (uint8_t) "0123456789abcdef"[value & 15];
		value >>= 4;
	}
}

static bool get_hex(const uint8_t *in, unsigned digits, uint64_t *value)
{
	*value = 0;
	for (unsigned i = 0; i < digits; i++) {
		int digit = in[i] >= 'a' ? in[i] - 'a' + 10 : in[i] - '0';
		if (digit < 0 || digit > 15 || (in[i] < 'a' && digit > 9)) {
			return false;
		}
		*value = *value << 4 | (unsigned)digit;
	}
	return true;
}

void token_write(const struct token *token, uint8_t out[TOKEN_LEN])
{
	put_hex(out, 4, token->run);
	put_hex(out + 4, 6, token->flow);
	put_hex(out + 10, 8, token->seq);
	put_hex(out + 18, 14, token->time);
}

bool token_read(struct view text, struct token *token)
{
	uint64_t run, flow, seq;
	if (text.len < TOKEN_LEN || !get_hex(text.data, 4, &run) || !get_hex(text.data + 4, 6, &flow) ||
	    !get_hex(text.data + 10, 8, &seq) || !get_hex(text.data + 18, 14, &token->time)) {
		return false;
	}
	token->run = (unsigned)run;
	token->flow = (uint32_t)flow;
	token->seq = (uint32_t)seq;
	return true;
}

/* ---- reading ---- */

bool view_is(struct view view, const char *text)
{
	size_t n = strlen(text);
	return view.len == n && (n == 0 || memcmp(view.data, text, n) == 0);
}

struct view field_bytes(struct view message, unsigned number)
{
	struct wire_field field;
	struct view found = { 0 };
	for (size_t at = 0, n; at < message.len; at += n) {
		n = wire_field(message.data + at, message.len - at, &field);
		if (!n) {
			return (struct view){ 0 };
		}
		if (field.number == number && field.type == WIRE_BYTES) {
			found = (struct view){ .data = field.data, .len = field.len };
		}
	}
	return found;
}

uint64_t field_int(struct view message, unsigned number)
{
	struct wire_field field;
	uint64_t found = 0;
	for (size_t at = 0, n; at < message.len; at += n) {
		n = wire_field(message.data + at, message.len - at, &field);
		if (!n) {
			return 0;
		}
		if (field.number == number && field.type == WIRE_VARINT) {
			found = field.value;
		}
	}
	return found;
}

static bool inflate_message(struct codec *codec, struct view hidden, struct view *msg)
{
	z_stream *stream = &codec->inflate;
	union {
		const uint8_t *in;
		uint8_t *next;
	} data = { .in = hidden.data }; /* zlib does not write there */
	inflateReset(stream);
	stream->next_in = data.next;
	stream->avail_in = (uInt)hidden.len;
	stream->next_out = codec->plain;
	stream->avail_out = FRAME_MAX;
	if (inflate(stream, Z_FINISH) != Z_STREAM_END) {
		return false;
	}
	*msg = (struct view){ .data = codec->plain, .len = FRAME_MAX - stream->avail_out };
	return true;
}

bool frame_read(struct codec *codec, const uint8_t *header, size_t n, struct frame *frame)
{
	struct view whole_header = { .data = header, .len = n }, msg = field_bytes(whole_header, HEADER_MESSAGE);
	uint64_t options = field_int(whole_header, HEADER_OPTIONS);
	if (!msg.data) {
		return false;
	}
	if (options == OPTION_GZIP && !inflate_message(codec, msg, &msg)) {
		return false;
	} else if (options == OPTION_TEA) {
		if (msg.len > FRAME_MAX) {
			return false;
		}
		tea_decrypt(msg.data, msg.len, codec->plain);
		msg.data = codec->plain;
	}
	*frame = (struct frame){ 0 };
	struct wire_field field;
	for (size_t at = 0, took; at < msg.len; at += took) {
		took = wire_field(msg.data + at, msg.len - at, &field);
		if (!took) {
			return false;
		}
		struct view view = { .data = field.data, .len = field.len };
		switch (field.number) {
		case PROTO_SIGNAL: frame->signal = (unsigned)field.value; break;
		case PROTO_FROM: frame->from = view; break;
		case PROTO_TO: frame->to = view; break;
		case PROTO_MESSAGE: frame->inner = view; break;
		default: break;
		}
	}
	return true;
}
