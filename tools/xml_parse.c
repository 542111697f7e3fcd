/* SPDX-License-Identifier: MIT */
/* XML text to stanzas, for tools and tests; the opposite of core/xml.c. Strict: one element, bounded depth and size, no
 * document type. Nothing on the wire is XML. */

#include "tools/xml_parse.h"

#include <errno.h>
#include <expat.h>
#include <stdbool.h>
#include <string.h>

#include "core/buf.h"
#include "core/stanza.h"

#define XML_DEPTH_MAX 32
#define XML_SIZE_MAX (16u * 1024 * 1024)
#define DEFAULT_NS "jabber:client"

struct level {
	struct stk_node *node;
	size_t text; /* where its text begins in the buffer */
	bool parent; /* it has elements in it */
};

struct parse {
	XML_Parser parser;
	struct stk_stanza *stanza;
	struct level stack[XML_DEPTH_MAX];
	size_t depth;
	struct buf text; /* of the open elements, one behind the other */
	const char *why;
	bool no_memory;
};

static const struct {
	const char *name;
	int element;
} elements[] = {
	{ "iq", STK_IQ },
	{ "message", STK_MESSAGE },
	{ "presence", STK_PRESENCE },
	{ "stream:stream", STANZA_STREAM },
	{ "starttls", STANZA_STARTTLS },
	{ "proceed", STANZA_PROCEED },
	{ "auth", STANZA_AUTH },
	{ "success", STANZA_SUCCESS },
	{ "failure", STANZA_FAILURE },
	{ "stream:end", STANZA_STREAM_END },
};

static void fail(struct parse *parse, const char *why)
{
	parse->why = parse->why ? parse->why : why;
	XML_StopParser(parse->parser, XML_FALSE);
}

static void fail_memory(struct parse *parse)
{
	parse->no_memory |= !parse->why;
	fail(parse, "out of memory");
}

static struct stk_node *begin_stanza(struct parse *parse, const char *name)
{
	for (size_t i = 0; i < sizeof(elements) / sizeof(*elements); i++) {
		if (strcmp(elements[i].name, name) == 0) {
			parse->stanza = stanza_new(elements[i].element, elements[i].name, NULL, 1024);
			if (!parse->stanza) {
				fail_memory(parse);
				return NULL;
			}
			return stanza_root(parse->stanza);
		}
	}
	fail(parse, "not an element of the protocol");
	return NULL;
}

static void open_element(void *arg, const char *name, const char **attrs)
{
	struct parse *parse = arg;
	if (parse->why) {
		return; /* expat ends the tag it is in before it stops */
	}
	if (parse->depth == XML_DEPTH_MAX) {
		fail(parse, "nested too deep");
		return;
	}
	struct level *parent = parse->depth ? &parse->stack[parse->depth - 1] : NULL;
	struct stk_node *node = parent ? stk_node_add(parent->node, name, NULL) : begin_stanza(parse, name);
	if (!node) {
		fail_memory(parse); /* unless it has failed already */
		return;
	}
	bool keep_ns = !parent && stanza_element(parse->stanza) == STANZA_STREAM;
	for (; *attrs; attrs += 2) {
		if (parent || keep_ns || strcmp(attrs[0], "xmlns") != 0 || strcmp(attrs[1], DEFAULT_NS) != 0) {
			stk_node_set(node, attrs[0], attrs[1]);
		}
	}
	if (parent) {
		parent->parent = true;
	}
	parse->stack[parse->depth++] = (struct level){ .node = node, .text = parse->text.len };
}

static void add_text(void *arg, const char *text, int len)
{
	struct parse *parse = arg;
	if (buf_append(&parse->text, text, (size_t)len) < 0) {
		fail_memory(parse);
	}
}

static void close_element(void *arg, const char *name)
{
	struct parse *parse = arg;
	(void)name;
	if (parse->why) {
		return;
	}
	struct level *level = &parse->stack[--parse->depth];
	if (buf_append(&parse->text, "", 1) < 0) {
		fail_memory(parse);
		return;
	}
	const char *text = (const char *)buf_data(&parse->text) + level->text;
	bool is_blank = strspn(text, " \t\r\n") == strlen(text);
	if (*text && (!is_blank || (!level->parent && parse->depth))) {
		stk_node_set_text(level->node, text);
	}
	parse->text.len = level->text;
}

static void refuse_doctype(void *arg, const char *name, const char *sysid, const char *pubid, int has_subset)
{
	(void)name;
	(void)sysid;
	(void)pubid;
	(void)has_subset;
	fail(arg, "document type");
}

static int run(struct parse *parse, const char *text, size_t n)
{
	XML_SetUserData(parse->parser, parse);
	XML_SetElementHandler(parse->parser, open_element, close_element);
	XML_SetCharacterDataHandler(parse->parser, add_text);
	XML_SetStartDoctypeDeclHandler(parse->parser, refuse_doctype);
	bool ok = XML_Parse(parse->parser, text, (int)n, XML_FALSE) == XML_STATUS_OK;
	bool is_open =
		ok && parse->depth == 1 && stanza_element(parse->stanza) == STANZA_STREAM && !parse->stack[0].parent;
	if (ok && !is_open) {
		ok = XML_Parse(parse->parser, "", 0, XML_TRUE) == XML_STATUS_OK;
	}
	if (!ok) {
		parse->why = parse->why ? parse->why : XML_ErrorString(XML_GetErrorCode(parse->parser));
	}
	if (parse->no_memory || (ok && stanza_failed(parse->stanza))) {
		return -ENOMEM;
	}
	return ok ? 0 : -EINVAL;
}

int xml_parse(const char *text, size_t n, struct stk_stanza **out, const char **why)
{
	struct parse parse = { 0 };
	*out = NULL;
	*why = "too long";
	if (n > XML_SIZE_MAX) {
		return -EINVAL;
	}
	parse.parser = XML_ParserCreate("UTF-8");
	if (!parse.parser) {
		*why = "out of memory";
		return -ENOMEM;
	}
	int rc = run(&parse, text, n);
	XML_ParserFree(parse.parser);
	buf_fini(&parse.text);
	if (rc < 0) {
		stk_stanza_unref(parse.stanza);
		*why = rc == -ENOMEM ? "out of memory" : parse.why;
		return rc;
	}
	*why = NULL;
	*out = parse.stanza;
	return 0;
}
