/* SPDX-License-Identifier: MIT */
/* Compares a stanza that came with the description of one. Owns what counts as equal and how a difference is told: what
 * the description has must be there, and when it is exact, nothing else. */

#include "tools/play.h"

#include <stdio.h>
#include <string.h>

struct match {
	bool exact;
	char *why;
	size_t size;
	const struct stk_node *root;            /* its addresses need not be said */
	const struct stk_node *wanted, *actual; /* while their attributes are compared */
	bool differs;
};

/* '*' in WANTED stands for any text, "\*" for itself. */
static bool same_text(const char *wanted, const char *actual)
{
	const char *star = NULL, *again = NULL;
	while (*actual) {
		bool escaped = wanted[0] == '\\' && wanted[1] == '*';
		if (*wanted == '*') {
			star = ++wanted;
			again = actual;
		} else if (wanted[escaped ? 1 : 0] == *actual) {
			wanted += escaped ? 2 : 1;
			actual++;
		} else if (star) {
			wanted = star;
			actual = ++again;
		} else {
			return false;
		}
	}
	while (*wanted == '*') {
		wanted++;
	}
	return !*wanted;
}

static bool check_attr(const char *name, const char *value, void *arg)
{
	struct match *match = arg;
	const char *is = stk_node_attr(match->actual, name), *element = stk_node_name(match->wanted);
	if (!is) {
		snprintf(match->why, match->size, "<%s> has no attribute %s='%s'", element, name, value);
	} else if (!same_text(value, is)) {
		snprintf(match->why, match->size, "attribute %s of <%s> is '%s', not '%s'", name, element, is, value);
	} else {
		return true;
	}
	match->differs = true;
	return false;
}

static bool check_no_more(const char *name, const char *value, void *arg)
{
	struct match *match = arg;
	bool is_address = strcmp(name, "from") == 0 || strcmp(name, "to") == 0;
	if (stk_node_attr(match->wanted, name) || (match->actual == match->root && is_address)) {
		return true;
	}
	snprintf(match->why, match->size, "<%s> has %s='%s', too", stk_node_name(match->actual), name, value);
	match->differs = true;
	return false;
}

/* The node itself: name, namespace, attributes, text. NS: the namespaces that surround the two. */
static bool match_self(struct match *match, const struct stk_node *wanted, const char *wanted_ns,
		       const struct stk_node *actual, const char *actual_ns)
{
	const char *name = stk_node_name(wanted);
	match->wanted = wanted;
	match->actual = actual;
	match->differs = false;
	if (strcmp(name, stk_node_name(actual)) != 0) {
		snprintf(match->why, match->size, "it is <%s>, not <%s>", stk_node_name(actual), name);
		return false;
	}
	if (!same_text(wanted_ns, actual_ns)) {
		snprintf(match->why, match->size, "<%s> is in namespace '%s', not '%s'", name, actual_ns, wanted_ns);
		return false;
	}
	stk_node_attrs(wanted, check_attr, match);
	if (match->exact && !match->differs) {
		stk_node_attrs(actual, check_no_more, match);
	}
	if (match->differs) {
		return false;
	}
	const char *text = stk_node_text(wanted), *is = stk_node_text(actual);
	if ((*text || (match->exact && !stk_node_child(actual, NULL, NULL))) && !same_text(text, is)) {
		snprintf(match->why, match->size, "the text of <%s> is '%s', not '%s'", name, is, text);
		return false;
	}
	return true;
}

static const char *namespace_of(const struct stk_node *node, const char *around)
{
	const char *own = stk_node_xmlns(node);
	return own ? own : around;
}

/* No deeper than a script is nested, which xml_parse() bounds. */
static bool match_node(struct match *match, const struct stk_node *wanted, const char *wanted_ns,
		       const struct stk_node *actual, const char *actual_ns)
{
	wanted_ns = namespace_of(wanted, wanted_ns);
	actual_ns = namespace_of(actual, actual_ns);
	if (!match_self(match, wanted, wanted_ns, actual, actual_ns)) {
		return false;
	}
	const struct stk_node *have = stk_node_child(actual, NULL, NULL);
	for (const struct stk_node *want = stk_node_child(wanted, NULL, NULL); want; want = stk_node_next(want)) {
		bool found = false, tried = false;
		for (; have && !found; have = stk_node_next(have)) {
			bool same_name = strcmp(stk_node_name(want), stk_node_name(have)) == 0;
			found = (same_name || match->exact) && match_node(match, want, wanted_ns, have, actual_ns);
			tried |= same_name; /* then WHY tells of it */
			if (!found && match->exact) {
				return false;
			}
		}
		if (!found && !tried) {
			snprintf(match->why, match->size, "<%s> has no <%s>%s", stk_node_name(actual),
				 stk_node_name(want),
				 want == stk_node_child(wanted, NULL, NULL) ? "" : " behind the others");
		}
		if (!found) {
			return false;
		}
	}
	if (match->exact && have) {
		snprintf(match->why, match->size, "<%s> has <%s>, too", stk_node_name(actual), stk_node_name(have));
		return false;
	}
	return true;
}

bool play_match(const struct stk_stanza *wanted, const struct stk_stanza *actual, bool exact, char *why, size_t size)
{
	struct match match = { .exact = exact, .why = why, .size = size, .root = stk_stanza_root(actual) };
	return match_node(&match, stk_stanza_root(wanted), "", stk_stanza_root(actual), "");
}
