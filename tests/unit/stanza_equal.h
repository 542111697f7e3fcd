/* SPDX-License-Identifier: MIT */
#ifndef STK_TESTS_STANZA_EQUAL_H
#define STK_TESTS_STANZA_EQUAL_H

/* The comparison of stanzas, for unit tests and fuzz targets. */

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "core/stanza.h"

struct other {
	const struct stk_node *node;
	size_t count;
	bool is_stream, equal;
};

static inline bool same_attr(const char *name, const char *value, void *arg)
{
	struct other *other = arg;
	const char *own = stk_node_attr(other->node, name);
	bool free_id = other->is_stream && strcmp(name, "id") == 0;
	other->count++;
	other->equal = own && (free_id || strcmp(own, value) == 0);
	return other->equal;
}

static inline bool count_attr(const char *name, const char *value, void *arg)
{
	(void)name;
	(void)value;
	(*(size_t *)arg)++;
	return true;
}

static inline bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static inline bool same_node(const struct stk_node *a, const struct stk_node *b, bool is_stream)
{
	if (!a || !b) {
		return a == b;
	}
	struct other other = { .node = b, .is_stream = is_stream, .equal = true };
	size_t count = 0;
	stk_node_attrs(a, same_attr, &other);
	stk_node_attrs(b, count_attr, &count);
	if (!other.equal || other.count != count || !same_text(stk_node_name(a), stk_node_name(b)) ||
	    !same_text(stk_node_xmlns(a), stk_node_xmlns(b)) || !same_text(stk_node_text(a), stk_node_text(b))) {
		return false;
	}
	const struct stk_node *child = stk_node_child(a, NULL, NULL), *twin = stk_node_child(b, NULL, NULL);
	while (child && twin && same_node(child, twin, false)) {
		child = stk_node_next(child);
		twin = stk_node_next(twin);
	}
	return !child && !twin;
}

/* Are A and B the same but for the order of attributes and, in stream headers, the id? */
static inline bool stanza_equal(const struct stk_stanza *a, const struct stk_stanza *b)
{
	return stanza_element(a) == stanza_element(b) &&
	       same_node(stk_stanza_root(a), stk_stanza_root(b), stanza_element(a) == STANZA_STREAM);
}

#endif
