/* SPDX-License-Identifier: MIT */
/* Stanzas: a tree of elements in one arena, counted references. Owns the tree and its lifetime; how it looks on
 * a wire is the codec's business, where it goes the router's. */

#include "core/stanza.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define STANZA_FIRST 1024 /* bytes in a built stanza's first block: a usual one takes one malloc */

struct attr {
	struct attr *next;
	const char *name, *value;
};

struct stk_node {
	struct stk_stanza *stanza;
	struct stk_node *next, *children, *last_child;
	struct attr *attrs, *last_attr;
	uint64_t beginnings; /* of the attributes' names: see beginning() */
	const char *name, *xmlns, *text;
};

struct stk_stanza {
	struct arena *arena; /* the stanza itself lies in it */
	atomic_uint refs;
	int element;
	bool failed, sealed;
	void *context;
	struct stk_node root;
};

struct stk_stanza *stanza_new(int element, const char *name, const char *xmlns, size_t size)
{
	struct arena *arena = arena_new(sizeof(struct stk_stanza) + size);
	if (!arena) {
		return NULL;
	}
	struct stk_stanza *stanza = arena_alloc(arena, sizeof(*stanza));
	if (!stanza) {
		arena_free(&arena);
		return NULL;
	}
	*stanza = (struct stk_stanza){ .arena = arena, .refs = 1, .element = element };
	stanza->root = (struct stk_node){ .stanza = stanza, .name = name, .xmlns = xmlns, .text = "" };
	return stanza;
}

int stanza_element(const struct stk_stanza *stanza)
{
	return stanza->element;
}

bool stanza_is_request(const struct stk_stanza *stanza)
{
	const char *type = stk_stanza_type(stanza);
	return stanza_element(stanza) == STK_IQ && type && (strcmp(type, "get") == 0 || strcmp(type, "set") == 0);
}

struct arena *stanza_arena(struct stk_stanza *stanza)
{
	return stanza->arena;
}

struct stk_node *stanza_root(struct stk_stanza *stanza)
{
	return &stanza->root;
}

bool stanza_failed(const struct stk_stanza *stanza)
{
	return stanza->failed;
}

void *stanza_context(const struct stk_stanza *stanza)
{
	return stanza->context;
}

void stanza_set_context(struct stk_stanza *stanza, void *context)
{
	stanza->context = context;
}

void stanza_seal(struct stk_stanza *stanza)
{
	stanza->sealed = true;
}

struct stk_stanza *stk_stanza_ref(struct stk_stanza *stanza)
{
	atomic_fetch_add_explicit(&stanza->refs, 1, memory_order_relaxed);
	return stanza;
}

void stk_stanza_unref(struct stk_stanza *stanza)
{
	if (stanza && atomic_fetch_sub_explicit(&stanza->refs, 1, memory_order_acq_rel) == 1) {
		struct arena *arena = stanza->arena;
		arena_free(&arena);
	}
}

/* ---- reading ---- */

/* A bit for the first two letters of a name. Most names that are looked for or set are not there yet, and this tells without
 * comparing them with every other. */
static uint64_t beginning(const char *name)
{
	unsigned letters = (unsigned char)name[0];
	letters += name[0] ? 7u * (unsigned char)name[1] : 0;
	return UINT64_C(1) << letters % 64;
}

static struct attr *find_attr(const struct stk_node *node, const char *name)
{
	struct attr *attr = node->beginnings & beginning(name) ? node->attrs : NULL;
	while (attr && attr->name != name && (*attr->name != *name || strcmp(attr->name, name) != 0)) {
		attr = attr->next;
	}
	return attr;
}

enum stk_element stk_stanza_element(const struct stk_stanza *stanza)
{
	return (enum stk_element)stanza->element;
}

const char *stk_stanza_type(const struct stk_stanza *stanza)
{
	return stk_node_attr(&stanza->root, "type");
}

const char *stk_stanza_id(const struct stk_stanza *stanza)
{
	return stk_node_attr(&stanza->root, "id");
}

const char *stk_stanza_from(const struct stk_stanza *stanza)
{
	return stk_node_attr(&stanza->root, "from");
}

const char *stk_stanza_to(const struct stk_stanza *stanza)
{
	return stk_node_attr(&stanza->root, "to");
}

const char *stk_stanza_xmlns(const struct stk_stanza *stanza)
{
	for (const struct stk_node *child = stanza->root.children; child; child = child->next) {
		if (child->xmlns) {
			return child->xmlns;
		}
	}
	return stanza->root.xmlns;
}

const struct stk_node *stk_stanza_root(const struct stk_stanza *stanza)
{
	return &stanza->root;
}

const struct stk_node *stk_stanza_payload(const struct stk_stanza *stanza)
{
	return stanza->root.children;
}

const char *stk_node_name(const struct stk_node *node)
{
	return node ? node->name : NULL;
}

const char *stk_node_xmlns(const struct stk_node *node)
{
	return node ? node->xmlns : NULL;
}

const char *stk_node_text(const struct stk_node *node)
{
	return node ? node->text : NULL;
}

const char *stk_node_attr(const struct stk_node *node, const char *name)
{
	const struct attr *attr = node ? find_attr(node, name) : NULL;
	return attr ? attr->value : NULL;
}

const struct stk_node *stk_node_child(const struct stk_node *node, const char *name, const char *xmlns)
{
	for (const struct stk_node *child = node ? node->children : NULL; child; child = child->next) {
		if ((!name || child->name == name || strcmp(child->name, name) == 0) &&
		    (!xmlns || (child->xmlns && strcmp(child->xmlns, xmlns) == 0))) {
			return child;
		}
	}
	return NULL;
}

const struct stk_node *stk_node_next(const struct stk_node *node)
{
	return node ? node->next : NULL;
}

void stk_node_attrs(const struct stk_node *node, bool (*each)(const char *, const char *, void *), void *arg)
{
	for (const struct attr *attr = node ? node->attrs : NULL; attr; attr = attr->next) {
		if (!each(attr->name, attr->value, arg)) {
			return;
		}
	}
}

/* ---- building ---- */

static void *take(struct stk_stanza *stanza, size_t size)
{
	assert(!stanza->sealed);
	void *piece = stanza->failed ? NULL : arena_alloc(stanza->arena, size);
	stanza->failed = !piece;
	return piece;
}

static const char *keep(struct stk_stanza *stanza, const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = take(stanza, size);
	return copy ? memcpy(copy, text, size) : NULL;
}

struct stk_node *node_add(struct stk_node *parent, const char *name, const char *xmlns)
{
	struct stk_node *node = parent ? take(parent->stanza, sizeof(*node)) : NULL;
	if (!node) {
		return NULL;
	}
	*node = (struct stk_node){ .stanza = parent->stanza, .name = name, .xmlns = xmlns, .text = "" };
	if (parent->last_child) {
		parent->last_child->next = node;
	} else {
		parent->children = node;
	}
	parent->last_child = node;
	return node;
}

static void add_attr(struct stk_node *node, const char *name, const char *value)
{
	struct attr *attr = take(node->stanza, sizeof(*attr));
	if (!attr) {
		return;
	}
	*attr = (struct attr){ .name = name, .value = value };
	if (node->last_attr) {
		node->last_attr->next = attr;
	} else {
		node->attrs = attr;
	}
	node->last_attr = attr;
	node->beginnings |= beginning(name);
}

static bool is_xmlns(const char *name)
{
	return *name == 'x' && strcmp(name, "xmlns") == 0;
}

void node_set(struct stk_node *node, const char *name, const char *value)
{
	if (!node || !value) {
		return;
	}
	assert(!node->stanza->sealed);
	struct attr *attr = find_attr(node, name);
	if (is_xmlns(name)) {
		node->xmlns = value;
	} else if (attr) {
		attr->value = value;
	} else {
		add_attr(node, name, value);
	}
}

void node_set_text(struct stk_node *node, const char *text)
{
	if (node) {
		assert(!node->stanza->sealed);
		node->text = text ? text : "";
	}
}

struct stk_node *stk_node_add(struct stk_node *parent, const char *name, const char *xmlns)
{
	if (!parent) {
		return NULL;
	}
	const char *own_name = keep(parent->stanza, name);
	const char *own_xmlns = xmlns ? keep(parent->stanza, xmlns) : NULL;
	return parent->stanza->failed ? NULL : node_add(parent, own_name, own_xmlns);
}

void stk_node_set(struct stk_node *node, const char *name, const char *value)
{
	if (!node || !value) {
		return;
	}
	const char *own_value = keep(node->stanza, value);
	bool has_name = is_xmlns(name) || find_attr(node, name);
	const char *own_name = has_name || node->stanza->failed ? name : keep(node->stanza, name);
	if (!node->stanza->failed) {
		node_set(node, own_name, own_value);
	}
}

/* As stk_node_set; NAME is a constant. */
static void set_constant(struct stk_node *node, const char *name, const char *value)
{
	const char *own_value = node && value ? keep(node->stanza, value) : NULL;
	node_set(node, name, own_value);
}

void stk_node_set_text(struct stk_node *node, const char *text)
{
	if (node && text) {
		const char *own = keep(node->stanza, text);
		node_set_text(node, own);
	}
}

static const char *element_name(int element)
{
	static const char *const names[] = { [STK_IQ] = "iq", [STK_MESSAGE] = "message", [STK_PRESENCE] = "presence" };
	assert(element >= STK_IQ && element <= STK_PRESENCE);
	return names[element];
}

struct stk_stanza *stk_stanza_new(enum stk_element element, const char *type, const char *id)
{
	struct stk_stanza *stanza = stanza_new((int)element, element_name((int)element), NULL, STANZA_FIRST);
	if (stanza) {
		set_constant(&stanza->root, "type", type);
		set_constant(&stanza->root, "id", id);
	}
	return stanza;
}

struct stk_stanza *stanza_stream_end(int code, const char *reason)
{
	char number[16];
	snprintf(number, sizeof(number), "%d", code);
	struct stk_stanza *end = stanza_new(STANZA_STREAM_END, "stream:end", NULL, 256);
	if (end) {
		stk_node_set(&end->root, "code", number);
		stk_node_set(&end->root, "reason", reason);
		stanza_seal(end);
	}
	return end;
}

static void copy_node(struct stk_node *to, const struct stk_node *from)
{
	for (const struct attr *attr = from->attrs; attr; attr = attr->next) {
		stk_node_set(to, attr->name, attr->value);
	}
	if (*from->text) {
		stk_node_set_text(to, from->text);
	}
}

/* Depth-first without recursion: the copy grows beside the original, ancestors are kept in a stack bounded by
 * the depth that the codec and the builders of this server make. */
static void copy_children(struct stk_node *to, const struct stk_node *from)
{
	struct {
		struct stk_node *to;
		const struct stk_node *from;
	} stack[32];
	size_t depth = 0;
	const struct stk_node *child = from->children;
	while (child || depth) {
		if (!child) {
			depth--;
			to = stack[depth].to;
			child = stack[depth].from->next;
			continue;
		}
		struct stk_node *copy = stk_node_add(to, child->name, child->xmlns);
		if (!copy) {
			return;
		}
		copy_node(copy, child);
		if (child->children && depth < sizeof(stack) / sizeof(*stack)) {
			stack[depth].to = to;
			stack[depth++].from = child;
			to = copy;
			child = child->children;
		} else {
			copy->stanza->failed |= child->children != NULL;
			child = child->next;
		}
	}
}

struct stk_stanza *stk_stanza_copy(const struct stk_stanza *stanza)
{
	struct stk_stanza *copy = stanza_new(stanza->element, stanza->root.name, NULL, arena_used(stanza->arena));
	if (!copy) {
		return NULL;
	}
	copy->root.name = keep(copy, stanza->root.name);
	if (stanza->root.xmlns) {
		copy->root.xmlns = keep(copy, stanza->root.xmlns);
	}
	copy_node(&copy->root, &stanza->root);
	copy_children(&copy->root, &stanza->root);
	if (copy->failed) {
		stk_stanza_unref(copy);
		return NULL;
	}
	return copy;
}

struct stk_node *stk_stanza_edit(struct stk_stanza *stanza)
{
	return stanza && !stanza->sealed ? &stanza->root : NULL;
}

void stk_stanza_set_from(struct stk_stanza *stanza, const char *jid)
{
	set_constant(stk_stanza_edit(stanza), "from", jid);
}

void stk_stanza_set_to(struct stk_stanza *stanza, const char *jid)
{
	set_constant(stk_stanza_edit(stanza), "to", jid);
}

struct stk_stanza *stk_stanza_result(const struct stk_stanza *request)
{
	const char *type = stk_stanza_type(request);
	if (request->element != STK_IQ || !type || (strcmp(type, "get") != 0 && strcmp(type, "set") != 0)) {
		return NULL;
	}
	struct stk_stanza *result = stk_stanza_new(STK_IQ, "result", stk_stanza_id(request));
	if (result) {
		stk_stanza_set_from(result, stk_stanza_to(request));
		stk_stanza_set_to(result, stk_stanza_from(request));
	}
	return result;
}
