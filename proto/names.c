/* SPDX-License-Identifier: MIT */
/* The protocol's names beside those of stanzas: headers and client types, by name and by number. Tables only; who uses
 * which header where is said by the codec's other files. */

#include "proto/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/startalk.pb-c.h"

struct header {
	const char *name;
	int32_t number;
	bool as_text; /* sent by name although it has a number */
};

static const struct header headers[] = {
	/* in the order of strcmp */
	{ "affiliation", 28, false },
	{ "answer", 62, false },
	{ "backupinfo", 4, false },
	{ "body", 24, false },
	{ "carbon_message", 72, false },
	{ "cdata", 50, false },
	{ "channelid", 2, false },
	{ "code", 42, false },
	{ "del_jid", 10, false },
	{ "domain", 38, false },
	{ "extendInfo", 3, false },
	{ "forbidden_words", 78, false },
	{ "friends", 64, false },
	{ "host", 58, false },
	{ "invite_jid", 9, false },
	{ "jid", 7, false },
	{ "key", 70, false },
	{ "key_value", 54, false },
	{ "masked_user", 68, false },
	{ "method", 22, false },
	{ "mode", 76, false },
	{ "name", 56, false },
	{ "nick", 12, false },
	{ "pic", 18, false },
	{ "qchatid", 1, true },
	{ "question", 60, false },
	{ "read_type", 5, false },
	{ "real_jid", 8, false },
	{ "reason", 34, false },
	{ "result", 32, false },
	{ "role", 36, false },
	{ "status", 40, false },
	{ "time_value", 52, false },
	{ "title", 16, false },
	{ "type", 30, false },
	{ "value", 66, false },
	{ "version", 20, false },
};

#define HEADERS (sizeof(headers) / sizeof(*headers))

const char *header_name(int32_t number)
{
	for (size_t i = 0; i < HEADERS; i++) {
		if (headers[i].number == number) {
			return headers[i].name;
		}
	}
	return NULL;
}

static int compare_name(const void *name, const void *header)
{
	return strcmp(name, ((const struct header *)header)->name);
}

int32_t header_number(const char *name)
{
	const struct header *header = bsearch(name, headers, HEADERS, sizeof(*headers), compare_name);
	return header && !header->as_text ? header->number : 0;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool name_is_plain(const char *text)
{
	if (!text || !is_letter(*text)) {
		return false;
	}
	while (is_letter(*text) || (*text >= '0' && *text <= '9') || *text == '-' || *text == '.') {
		text++;
	}
	return *text == '\0';
}

const char *client_name(int32_t number)
{
	const ProtobufCEnumValue *value =
		protobuf_c_enum_descriptor_get_value(&startalk__client_type__descriptor, number);
	return value ? value->name : NULL;
}

int32_t client_number(const char *name)
{
	const ProtobufCEnumValue *value =
		protobuf_c_enum_descriptor_get_value_by_name(&startalk__client_type__descriptor, name);
	return value ? value->value : 0;
}

bool number_parse(const char *text, int64_t min, int64_t max, int64_t *number)
{
	const char *digits = text && *text == '-' ? text + 1 : text;
	if (!digits || *digits < '0' || *digits > '9') {
		return false;
	}
	char *end;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (errno || *end || value < min || value > max) {
		return false;
	}
	*number = value;
	return true;
}
