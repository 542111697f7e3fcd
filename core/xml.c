/* SPDX-License-Identifier: MIT */
/* Stanzas as XML text, for tools, logs and tests. Prints only: nothing on the wire is XML. */

#include "core/xml.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/stanza.h"

#define XML_DEPTH 64

static int put(struct buf *out, const char *text)
{
	return buf_append(out, text, strlen(text));
}

static int put_escaped(struct buf *out, const char *text)
{
	int rc = 0;
	while (*text && rc == 0) {
		size_t plain = 0;
		while ((unsigned char)text[plain] >= 0x20 && !strchr("<>&'\"\x7f", text[plain])) {
			plain++;
		}
		rc = buf_append(out, text, plain);
		text += plain;
		if (!*text || rc < 0) {
			break;
		}
		char ref[8];
		switch (*text) {
		case '<': strcpy(ref, "&lt;"); break;
		case '>': strcpy(ref, "&gt;"); break;
		case '&': strcpy(ref, "&amp;"); break;
		case '\'': strcpy(ref, "&apos;"); break;
		case '"': strcpy(ref, "&quot;"); break;
		default: snprintf(ref, sizeof(ref), "&#%d;", (unsigned char)*text); break;
		}
		rc = put(out, ref);
		text++;
	}
	return rc;
}

struct attr_print {
	struct buf *out;
	int rc;
};

static bool put_attr(const char *name, const char *value, void *arg)
{
	struct attr_print *print = arg;
	struct buf *out = print->out;
	if (put(out, " ") < 0 || put(out, name) < 0 || put(out, "='") < 0 || put_escaped(out, value) < 0 || put(out, "'") < 0) {
		print->rc = -ENOMEM;
	}
	return print->rc == 0;
}

static int put_open(struct buf *out, const struct stk_node *node)
{
	int rc = put(out, "<");
	rc = rc ? rc : put(out, stk_node_name(node));
	struct attr_print print = { .out = out, .rc = rc };
	if (rc == 0 && stk_node_xmlns(node)) {
		put_attr("xmlns", stk_node_xmlns(node), &print);
	}
	if (print.rc == 0) {
		stk_node_attrs(node, put_attr, &print);
	}
	return print.rc;
}

static int put_close(struct buf *out, const struct stk_node *node)
{
	int rc = put(out, "</");
	rc = rc ? rc : put(out, stk_node_name(node));
	return rc ? rc : put(out, ">");
}

/* One pass down and up the tree; the way back is kept in a stack of fixed depth instead of on the machine's. */
int xml_print(const struct stk_stanza *stanza, struct buf *out)
{
	const struct stk_node *stack[XML_DEPTH];
	size_t depth = 0;
	const struct stk_node *node = stk_stanza_root(stanza);
	if (stanza_element(stanza) == STANZA_STREAM) {
		int rc = put_open(out, node);
		return rc ? rc : put(out, ">");
	}
	while (node) {
		int rc = put_open(out, node);
		const struct stk_node *child = stk_node_child(node, NULL, NULL);
		bool empty = !child && !*stk_node_text(node);
		rc = rc ? rc : put(out, empty ? "/>" : ">");
		rc = rc ? rc : put_escaped(out, stk_node_text(node));
		if (rc < 0) {
			return rc;
		}
		if (child && depth == XML_DEPTH) {
			return -EOVERFLOW;
		}
		if (child) {
			stack[depth++] = node;
			node = child;
			continue;
		}
		if (!empty && (rc = put_close(out, node)) < 0) {
			return rc;
		}
		while (depth && !stk_node_next(node)) {
			node = stack[--depth];
			if ((rc = put_close(out, node)) < 0) {
				return rc;
			}
		}
		node = depth ? stk_node_next(node) : NULL;
	}
	return 0;
}
