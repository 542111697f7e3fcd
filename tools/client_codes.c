/* SPDX-License-Identifier: MIT */
/* What codes of errors and of stream ends mean in words, and what words mean as durations. */

#include "tools/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DURATION_MAX 86400 /* seconds */

const char *show_code(const char *code)
{
	static const struct {
		const char *code, *name;
	} codes[] = {
		{ "400", "bad-request" },
		{ "401", "not-authorized" },
		{ "403", "forbidden" },
		{ "404", "item-not-found" },
		{ "405", "not-allowed" },
		{ "406", "not-acceptable" },
		{ "409", "conflict" },
		{ "500", "internal-server-error" },
		{ "501", "feature-not-implemented" },
		{ "503", "service-unavailable" },
		{ "504", "remote-server-timeout" },
	};
	for (size_t i = 0; code && i < sizeof(codes) / sizeof(*codes); i++) {
		if (strcmp(codes[i].code, code) == 0) {
			return codes[i].name;
		}
	}
	return "unknown error";
}

void show_failure(const struct stk_stanza *stanza, char *out, size_t size)
{
	const struct stk_node *error = stk_node_child(stk_stanza_root(stanza), "error", NULL);
	const char *code = stk_node_attr(error, "code"), *text = stk_node_text(stk_node_child(error, "text", NULL));
	snprintf(out, size, "%s (%s)%s%s", code ? code : "without code", show_code(code), text && *text ? ": " : "",
		 text ? text : "");
}

const char *show_end(const char *code)
{
	switch (code ? atoi(code) : 0) {
	case 101: return "fetch the navigation, then connect again";
	case 102: return "time-out";
	case 111: return "the server shuts down";
	case 201: return "kicked";
	case 202: return "quit";
	case 203: return "log in anew";
	case 222: return "protocol or policy error, or replaced by another session";
	default: return code && code[0] == '1' ? "connect again" : "do not connect again";
	}
}

int client_duration(const char *text, int64_t *us)
{
	char *unit;
	if (!strchr("0123456789.", text[0]) || strpbrk(text, "xXpP")) {
		return -EINVAL;
	}
	double value = strtod(text, &unit);
	if (strcmp(unit, "ms") == 0) {
		value /= 1000;
	} else if (strcmp(unit, "min") == 0) {
		value *= 60;
	} else if (*unit && strcmp(unit, "s") != 0) {
		return -EINVAL;
	}
	if (unit == text || !(value >= 0 && value <= DURATION_MAX)) {
		return -EINVAL;
	}
	*us = (int64_t)(value * 1e6);
	return 0;
}
