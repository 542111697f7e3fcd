/* SPDX-License-Identifier: MIT */
#ifndef STARTALKD_STANZA_H
#define STARTALKD_STANZA_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A stanza is a small tree of elements in one block of memory. It is built by one owner, then routed; once routed
 * it is never changed again and may be shared: keep it with stk_stanza_ref(). Everything read from it lives as
 * long as the stanza. All text is UTF-8 without U+0000.
 *
 * Building does not fail call by call: when memory runs out the stanza remembers it, further calls do nothing, and
 * stk_send() or stk_reply() returns -ENOMEM. The node functions accept NULL for the node, so calls can be nested. */
struct stk_stanza;
struct stk_node;

enum stk_element { STK_IQ = 1, STK_MESSAGE, STK_PRESENCE };

/* Reading. Since 0.1. */
enum stk_element stk_stanza_element(const struct stk_stanza *stanza);
const char *stk_stanza_type(const struct stk_stanza *stanza); /* attribute type, or NULL */
const char *stk_stanza_id(const struct stk_stanza *stanza);   /* attribute id, or NULL */
const char *stk_stanza_from(const struct stk_stanza *stanza); /* a JID as text, or NULL */
const char *stk_stanza_to(const struct stk_stanza *stanza);   /* a JID as text, or NULL */
/* The namespace that handlers are found by: that of the first child that has one of its own, else that of the
 * stanza's own element, else NULL. */
const char *stk_stanza_xmlns(const struct stk_stanza *stanza);
const struct stk_node *stk_stanza_root(const struct stk_stanza *stanza); /* the iq, message or presence element */
const struct stk_node *stk_stanza_payload(const struct stk_stanza *stanza); /* first child of the root, or NULL */

const char *stk_node_name(const struct stk_node *node);
const char *stk_node_xmlns(const struct stk_node *node); /* its own xmlns, or NULL where it inherits one */
const char *stk_node_attr(const struct stk_node *node, const char *name); /* or NULL */
const char *stk_node_text(const struct stk_node *node); /* its character data; "" when there is none, NULL for a NULL node */
/* First child of NODE named NAME (NULL: any) in namespace XMLNS (NULL: any), or NULL. */
const struct stk_node *stk_node_child(const struct stk_node *node, const char *name, const char *xmlns);
const struct stk_node *stk_node_next(const struct stk_node *node); /* next sibling, or NULL */
/* Calls EACH for every attribute but xmlns in the order they were set, until it returns false. */
void stk_node_attrs(const struct stk_node *node, bool (*each)(const char *name, const char *value, void *arg), void *arg);

/* Building. The caller owns what stk_stanza_new() and stk_stanza_copy() return (one reference) until it is given
 * away with stk_send() or stk_reply(), or freed with stk_stanza_unref(). Strings are copied; a NULL type, id or
 * value leaves the attribute out. NULL: out of memory. Since 0.1. */
struct stk_stanza *stk_stanza_new(enum stk_element element, const char *type, const char *id);
struct stk_stanza *stk_stanza_copy(const struct stk_stanza *stanza); /* a deep copy that may be changed */
struct stk_node *stk_stanza_edit(struct stk_stanza *stanza); /* its root, to be changed; NULL once it was routed */
void stk_stanza_set_from(struct stk_stanza *stanza, const char *jid);
void stk_stanza_set_to(struct stk_stanza *stanza, const char *jid);
struct stk_node *stk_node_add(struct stk_node *parent, const char *name, const char *xmlns); /* last child; xmlns NULL: inherited */
void stk_node_set(struct stk_node *node, const char *name, const char *value); /* sets or replaces an attribute; "xmlns" too */
void stk_node_set_text(struct stk_node *node, const char *text);

/* A result for REQUEST (an IQ get or set): to its sender, from its addressee, same id. NULL: out of memory, or not a
 * request. The payload goes under its root. Since 0.1. */
struct stk_stanza *stk_stanza_result(const struct stk_stanza *request);

/* References are counted atomically: any thread may hold one. Since 0.1. */
struct stk_stanza *stk_stanza_ref(struct stk_stanza *stanza); /* returns its argument */
void stk_stanza_unref(struct stk_stanza *stanza);             /* NULL is accepted */

#ifdef __cplusplus
}
#endif
#endif
