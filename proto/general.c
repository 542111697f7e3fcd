/* SPDX-License-Identifier: MIT */
/* The general form of an IQ, by which modules can have namespaces of their own: one element with attributes, text and
 * children for an IQMessage with namespace, key, body and bodys. Owns that form in both directions; that bodies nest
 * within bodies is walked with a stack of fixed depth. */

#include <errno.h>
#include <string.h>

#include "proto/names.h"
#include "proto/pass.h"

#define TEXT_HEADER "cdata" /* a child's text; its element name takes the place that text has elsewhere */
#define TYPE_HEADER "type"  /* says of a request whether it is get or set */
#define UNNAMED "item"      /* a body without a usable name */

/* ---- reading ---- */

static struct stk_node *read_body(struct reading *reading, struct stk_node *parent, const Startalk__MessageBody *body)
{
	struct stk_node *node = node_add(parent, name_is_plain(body->value) ? body->value : UNNAMED, NULL);
	node_set(node, "xmlns", text_or_null(body_header(body, "xmlns")));
	read_all_headers(reading, node, body, TEXT_HEADER);
	node_set_text(node, body_header(body, TEXT_HEADER));
	return node;
}

void bodies_read(struct reading *reading, struct stk_node *node, Startalk__MessageBody *const *list, size_t n)
{
	struct {
		struct stk_node *node;
		Startalk__MessageBody *const *list;
		size_t n, next;
	} stack[BODY_DEPTH] = { { node, list, n, 0 } };
	size_t depth = 1;
	while (depth) {
		size_t top = depth - 1;
		if (stack[top].next == stack[top].n) {
			depth--;
			continue;
		}
		const Startalk__MessageBody *body = stack[top].list[stack[top].next++];
		struct stk_node *child = read_body(reading, stack[top].node, body);
		if (body->n_bodys && depth < BODY_DEPTH) {
			stack[depth].node = child;
			stack[depth].list = body->bodys;
			stack[depth].n = body->n_bodys;
			stack[depth++].next = 0;
		}
	}
}

void general_read(struct reading *reading, const Startalk__IQMessage *iq, const char *name, const char *xmlns,
		  bool request)
{
	struct stk_node *node = node_add(reading->root, name, xmlns);
	read_all_headers(reading, node, iq->body, request ? TYPE_HEADER : NULL);
	if (request) {
		const char *type = body_header(iq->body, TYPE_HEADER);
		node_set(reading->root, "type", type && strcmp(type, "set") == 0 ? "set" : "get");
		node_set(node, "value", iq->value);
	}
	node_set_text(node, iq->body ? iq->body->value : NULL);
	bodies_read(reading, node, iq->bodys, iq->n_bodys);
}

/* ---- writing ---- */

static struct body *write_body(struct writing *writing, const struct stk_node *node)
{
	struct body *body = body_new(writing);
	if (!name_is_plain(stk_node_name(node)) || stk_node_attr(node, TEXT_HEADER)) {
		writing->error = -EINVAL; /* has no place in a body */
	}
	if (!body) {
		return NULL;
	}
	body_add(writing, body, "xmlns", stk_node_xmlns(node));
	body_add_all(writing, body, node, NULL);
	if (*stk_node_text(node)) {
		body_add(writing, body, TEXT_HEADER, stk_node_text(node));
	}
	body->pb.value = put_text(writing, stk_node_name(node));
	return body;
}

void bodies_write(struct writing *writing, const struct stk_node *node, struct bodies *bodies)
{
	struct {
		const struct stk_node *next;
		struct body *body; /* whose the bodies are; NULL: the outermost */
		struct bodies list;
	} stack[BODY_DEPTH] = { { stk_node_child(node, NULL, NULL), NULL, { 0 } } };
	size_t depth = 1;
	while (depth && !writing->error) {
		size_t top = depth - 1;
		const struct stk_node *child = stack[top].next;
		if (!child) {
			struct body *owner = stack[top].body;
			if (owner) {
				owner->pb.bodys = stack[top].list.list;
				owner->pb.n_bodys = stack[top].list.n;
			} else {
				*bodies = stack[top].list;
			}
			depth--;
			continue;
		}
		struct body *body = write_body(writing, child);
		bodies_add(writing, &stack[top].list, body);
		stack[top].next = stk_node_next(child);
		if (body && stk_node_child(child, NULL, NULL)) {
			if (depth == BODY_DEPTH) {
				writing->error = -EINVAL;
				return;
			}
			stack[depth].next = stk_node_child(child, NULL, NULL);
			stack[depth].body = body;
			stack[depth++].list = (struct bodies){ 0 };
		}
	}
}

/* The key of a request: its element's name, query standing for none; in the namespace that stands for a key, the key.
 */
static void put_key(struct writing *writing, Startalk__IQMessage *iq, const struct stk_node *payload)
{
	const char *name = stk_node_name(payload), *xmlns = stk_node_xmlns(payload);
	bool is_query = strcmp(name, "query") == 0;
	if (is_query && xmlns && strncmp(xmlns, NS_IQ, strlen(NS_IQ)) == 0) {
		iq->key = put_text(writing, text_or_null(xmlns + strlen(NS_IQ)));
		return;
	}
	if (!name_is_plain(name)) {
		writing->error = -EINVAL;
	}
	iq->namespace_ = put_text(writing, xmlns ? xmlns : NS_CLIENT);
	iq->key = is_query ? NULL : put_text(writing, name);
}

void general_write(struct writing *writing, Startalk__IQMessage *iq, const struct stk_node *payload, bool request)
{
	struct body *body = body_new(writing);
	if (!body) {
		return;
	}
	if (request) {
		const char *type = stk_stanza_type(writing->stanza);
		if (stk_node_attr(payload, TYPE_HEADER)) {
			writing->error = -EINVAL; /* the header says get or set */
		}
		put_key(writing, iq, payload);
		iq->value = put_text(writing, stk_node_attr(payload, "value"));
		body_add(writing, body, TYPE_HEADER, strcmp(type, "set") == 0 ? type : NULL);
		body_add_all(writing, body, payload, "value");
	} else {
		if (!name_is_plain(stk_node_name(payload))) {
			writing->error = -EINVAL;
		}
		iq->value = put_text(writing, stk_node_name(payload));
		iq->namespace_ = put_text(writing, stk_node_xmlns(payload) ? stk_node_xmlns(payload) : NS_CLIENT);
		body_add_all(writing, body, payload, NULL);
	}
	const char *text = stk_node_text(payload);
	body->pb.value = *text ? put_text(writing, text) : NULL;
	iq->body = body->pb.n_headers || *text ? &body->pb : NULL;
	struct bodies bodies = { 0 };
	bodies_write(writing, payload, &bodies);
	iq->bodys = bodies.list;
	iq->n_bodys = bodies.n;
}
