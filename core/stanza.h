/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_STANZA_H
#define STK_CORE_STANZA_H

#include <stdbool.h>
#include <startalkd/stanza.h>

#include "core/arena.h"

/* What travels on a stream beside the three public elements; the core's own. */
enum {
	STANZA_STREAM = 16, /* stream:stream: attributes to, from, version, user, id; server's: sockmod */
	STANZA_STARTTLS,    /* starttls xmlns urn:ietf:params:xml:ns:xmpp-tls */
	STANZA_PROCEED,     /* proceed, same xmlns; attributes user, domain */
	STANZA_AUTH,        /* auth xmlns urn:ietf:params:xml:ns:xmpp-sasl: mechanism, id; text: base64 */
	STANZA_SUCCESS,     /* success, same xmlns: id, user, domain */
	STANZA_FAILURE,     /* failure, same xmlns: reason, domain */
	STANZA_STREAM_END,  /* stream:end: code, reason */
};

/* A new stanza of element ELEMENT (public or of the list above) in an arena of its own whose first block has room for SIZE bytes. */
struct stk_stanza *stanza_new(int element, const char *name, const char *xmlns, size_t size);
/* A StreamEnd, sealed; NULL: out of memory. */
struct stk_stanza *stanza_stream_end(int code, const char *reason);
int stanza_element(const struct stk_stanza *stanza); /* with the values above */
bool stanza_is_request(const struct stk_stanza *stanza); /* an IQ get or set: has to be answered */
/* The stanza's arena: what is taken from it lives as long as the stanza. */
struct arena *stanza_arena(struct stk_stanza *stanza);
struct stk_node *stanza_root(struct stk_stanza *stanza);

/* As stk_node_add/set/set_text, but the strings are borrowed: they must live in the stanza's arena or be constants. */
struct stk_node *node_add(struct stk_node *parent, const char *name, const char *xmlns);
void node_set(struct stk_node *node, const char *name, const char *value);
void node_set_text(struct stk_node *node, const char *text);

/* What the router keeps with a stanza while it is being dealt with; NULL until set. Router thread only. */
void *stanza_context(const struct stk_stanza *stanza);
void stanza_set_context(struct stk_stanza *stanza, void *context);

bool stanza_failed(const struct stk_stanza *stanza); /* memory ran out while it was built */
void stanza_seal(struct stk_stanza *stanza);         /* from now on it cannot be changed */

#endif
