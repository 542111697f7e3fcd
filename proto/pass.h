/* SPDX-License-Identifier: MIT */
#ifndef STK_PROTO_PASS_H
#define STK_PROTO_PASS_H

/* What the parts of the codec share: one pass over a frame or over a stanza. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <startalkd/stanza.h>

#include "core/arena.h"
#include "core/stanza.h"
#include "proto/codec.h"
#include "proto/startalk.pb-c.h"

#define ARRAY_LEN(array) (sizeof(array) / sizeof(*(array)))

/* A function that reads or writes returns 0, PASS_NOTHING (the frame stands for no stanza, the stanza for no frame), or
 * -errno. */
#define PASS_NOTHING 1

#define BODY_DEPTH                                                                                                   \
	12 /* bodies within bodies that are read and written; with what is around them this stays within CHECK_DEPTH \
	    */

/* A frame becoming a stanza. Text in ENVELOPE and MESSAGE lies in the stanza's arena. */
struct reading {
	const struct codec_context *context;
	const Startalk__ProtoMessage *envelope;
	const ProtobufCMessage *message; /* what the signalType's row in codec.c says */
	struct stk_stanza *stanza;
	struct stk_node *root;
	const char *why;
	int error; /* sticky: -ENOMEM */
};

/* A stanza becoming a frame. ERROR is sticky: -EILSEQ, -ENOMEM or -EINVAL. */
struct writing {
	const struct codec_context *context;
	const struct stk_stanza *stanza;
	const struct stk_node *root;
	struct arena *arena; /* NULL until it is needed; gone when the frame is made */
	struct buf *out;
	Startalk__ProtoMessage envelope;
	int error;
};

/* A MessageBody that grows. */
struct body {
	Startalk__MessageBody pb;
	size_t headers_cap;
};

/* The same for an array of them. */
struct bodies {
	Startalk__MessageBody **list;
	size_t n, cap;
};

/* ---- reading (headers.c) ---- */

/* TEXT unless it is NULL or empty: then NULL. */
const char *text_or_null(const char *text);
/* The name that HEADER has, by number or as text; NULL: none that a table knows. */
const char *header_known(const Startalk__StringHeader *header);
/* The same for every header: "_N" for a number that no table knows. NULL: it has no name, or memory is out. */
const char *header_label(struct reading *reading, const Startalk__StringHeader *header);
/* The header NAME of BODY (may be NULL), by number or text, the last one; NULL: there is none. */
const char *body_header(const Startalk__MessageBody *body, const char *name);
/* Sets attributes of NODE from the headers of BODY (may be NULL) that NAMES (NULL-terminated) lists. */
void read_headers(struct stk_node *node, const Startalk__MessageBody *body, const char *const *names);
/* The same for every header whose name can be an attribute's and is not SKIP (may be NULL), nor from, to, id and type
 * where NODE is the root: those are not the headers' to say. A number that no table knows is the attribute "_N". */
void read_all_headers(struct reading *reading, struct stk_node *node, const Startalk__MessageBody *body,
		      const char *skip);
/* A child NAME of PARENT with TEXT; none when TEXT is NULL. */
void read_text_child(struct stk_node *parent, const char *name, const char *text);
/* LEN bytes of TEXT, or a number, or an id that nobody else has, in the stanza's arena; NULL and the error set when
 * memory is out. */
char *keep_text(struct reading *reading, const char *text, size_t len);
char *keep_number(struct reading *reading, int64_t number);
char *make_id(struct reading *reading);
/* JID up to its first '@', or all of it. NULL stays NULL. */
const char *keep_user(struct reading *reading, const char *jid);

/* ---- writing (headers.c) ---- */

/* TEXT as a field of a message; checks that it is UTF-8. NULL stays NULL. */
char *put_text(struct writing *writing, const char *text);
/* The pass's own arena; NULL: out of memory. */
struct arena *put_arena(struct writing *writing);
/* SIZE bytes that live as long as the pass, the second time zeroed; NULL and the error set when memory is out. */
void *put_room(struct writing *writing, size_t size);
void *put_alloc(struct writing *writing, size_t size);
char *put_number(struct writing *writing, int64_t number);
struct body *body_new(struct writing *writing);
/* The number that the header NAME, as header_label has it, is sent by; 0: it is sent as text. */
int32_t header_sent_as(const char *name);
/* Adds the header NAME; nothing when VALUE is NULL. BODY may be NULL after an error. */
void body_add(struct writing *writing, struct body *body, const char *name, const char *value);
/* Adds a header for each attribute of NODE that NAMES lists, in the order of NAMES. */
void body_add_attrs(struct writing *writing, struct body *body, const struct stk_node *node, const char *const *names);
/* Adds a header for every attribute of NODE but SKIP (may be NULL) and those that read_all_headers leaves out. */
void body_add_all(struct writing *writing, struct body *body, const struct stk_node *node, const char *skip);
void bodies_add(struct writing *writing, struct bodies *bodies, struct body *body);
/* Packs INNER into the envelope and that into a frame at the end of OUT. 0 or -errno. */
int finish_frame(struct writing *writing, int32_t signal, const ProtobufCMessage *inner);
/* The envelope's from and to: the stanza's, else the session's on frames of the server. NULL: there is none. */
const char *sent_from(const struct writing *writing);
const char *sent_to(const struct writing *writing);
/* Fills them in. */
void put_addresses(struct writing *writing);

/* ---- the kinds of stanzas ---- */

int stream_read(struct reading *reading);
int starttls_read(struct reading *reading);
int proceed_read(struct reading *reading);
int auth_read(struct reading *reading);
int success_read(struct reading *reading);
int failure_read(struct reading *reading);
int stream_end_read(struct reading *reading);
int iq_read(struct reading *reading);
int presence_read(struct reading *reading);
int message_read(struct reading *reading);

int stream_write(struct writing *writing);
int starttls_write(struct writing *writing);
int proceed_write(struct writing *writing);
int auth_write(struct writing *writing);
int success_write(struct writing *writing);
int failure_write(struct writing *writing);
int stream_end_write(struct writing *writing);
int iq_write(struct writing *writing);
int presence_write(struct writing *writing);
int message_write(struct writing *writing);

/* IQ results (result.c) and the general form (general.c). ROOT is iq. */
void result_read(struct reading *reading, const Startalk__IQMessage *iq);
/* False: no table knows the result. */
bool result_write(struct writing *writing, Startalk__IQMessage *iq);
void general_read(struct reading *reading, const Startalk__IQMessage *iq, const char *name, const char *xmlns,
		  bool request);
void general_write(struct writing *writing, Startalk__IQMessage *iq, const struct stk_node *payload, bool request);
/* One child of NODE for each of the N bodies LIST, and so on within them; and back. */
void bodies_read(struct reading *reading, struct stk_node *node, Startalk__MessageBody *const *list, size_t n);
void bodies_write(struct writing *writing, const struct stk_node *node, struct bodies *bodies);

/* Is SIGNAL that of a message? TYPE gets the attribute's value, or NULL where it stands for no stanza from this side.
 */
bool message_signal(int32_t signal, enum codec_side side, const char **type);

#endif
