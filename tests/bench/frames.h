/* SPDX-License-Identifier: MIT */
#ifndef STK_BENCH_FRAMES_H
#define STK_BENCH_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <zlib.h>

#include "core/buf.h"

#define TOKEN_LEN 32 /* hex digits that a stencil holds a place for, in a messageId or at the start of a text */
#define FRAME_MAX (2 * 1024 * 1024)
#define BODY_MAX (64 * 1024)

enum signal_type {
	SIGNAL_PRESENCE = 1,
	SIGNAL_IQ = 2,
	SIGNAL_SUCCESS = 4,
	SIGNAL_FAILURE = 5,
	SIGNAL_CHAT = 6,
	SIGNAL_ERROR = 9,
	SIGNAL_READMARK = 13,
	SIGNAL_MSTAT = 16,
	SIGNAL_AUTH = 45,
	SIGNAL_STREAM_END = 51,
	SIGNAL_WELCOME = 100,
	SIGNAL_STARTTLS = 106,
	SIGNAL_PROCEED = 108
};
enum wrap_kind { WRAP_AUTO, WRAP_TEA, WRAP_GZIP, WRAP_NONE }; /* auto: as clients do, TEA up to 200 bytes, else gzip */

struct view {
	const uint8_t *data; /* borrowed; NULL: the field is not there */
	size_t len;
};

/* A frame from the server; its views live until the next one is read. */
struct frame {
	unsigned signal;
	struct view from, to, inner;
};

/* What is needed to wrap and unwrap, once for the process. */
struct codec {
	z_stream inflate, deflate;
	uint8_t *plain;
	struct buf inner, msg, out;
};

/* What identifies a message. */
struct token {
	unsigned run;  /* 16 bits */
	uint32_t flow; /* 24 bits */
	uint32_t seq;
	uint64_t time; /* 56 bits */
};

#define STENCIL_TOKENS 2

/* A frame of which nothing but tokens changes. */
struct stencil {
	struct buf msg, frame;
	size_t tokens;                   /* how many */
	size_t token_at[STENCIL_TOKENS]; /* in msg */
	size_t hidden_at;                /* where msg begins, hidden, in frame */
	enum wrap_kind wrap;             /* never WRAP_AUTO */
};

void codec_init(struct codec *codec);
void codec_fini(struct codec *codec);

bool view_is(struct view view, const char *text);
/* The last field NUMBER of a message that holds bytes, or an integer (0: it is not there). */
struct view field_bytes(struct view message, unsigned number);
uint64_t field_int(struct view message, unsigned number);

/* Reads a ProtoHeader of N bytes. False: it is broken. */
bool frame_read(struct codec *codec, const uint8_t *header, size_t n, struct frame *frame);

/* Frames to the server; what is returned lives in CODEC until the next call. FROM and TO may be NULL. */
struct view frame_welcome(struct codec *codec, const char *domain, const char *user);
struct view frame_starttls(struct codec *codec);
struct view frame_auth(struct codec *codec, const char *from, const char *auth_key);
struct view frame_bind(struct codec *codec, const char *resource);
struct view frame_priority(struct codec *codec, const char *from);
struct view frame_ping(struct codec *codec, const char *from, const char *id);

void stencil_chat(struct codec *codec, struct stencil *stencil, enum wrap_kind wrap, const char *from, const char *to,
		  const char *text);
void stencil_notify(struct codec *codec, struct stencil *stencil, enum wrap_kind wrap, const char *from, const char *to,
		    const char *text);
void stencil_ping(struct codec *codec, struct stencil *stencil, enum wrap_kind wrap, const char *from);
/* A mark that a message was delivered; its tokens are its own id and that of the message. */
void stencil_mark(struct codec *codec, struct stencil *stencil, enum wrap_kind wrap, const char *from, const char *to);
/* The frame with TOKENS in their places; it lives until the next call with STENCIL or CODEC. */
struct view stencil_stamp(struct codec *codec, struct stencil *stencil, const struct token *tokens);
void stencil_fini(struct stencil *stencil);

void token_write(const struct token *token, uint8_t out[TOKEN_LEN]);
/* False: it is no token. */
bool token_read(struct view text, struct token *token);

#endif
