/* SPDX-License-Identifier: MIT */
/* The protocol's names beside those of stanzas: headers and client types, by name and by number. Tables only; who uses
 * which header where is said by the codec's other files. */

#include "proto/names.h"

#include <stdlib.h>
#include <string.h>

#include "proto/startalk.pb-c.h"

/* Name, number, and whether it is sent by name although it has a number; in the order of strcmp. */
#define HEADERS(HEADER)                    \
	HEADER(affiliation, 28, false)     \
	HEADER(answer, 62, false)          \
	HEADER(backupinfo, 4, false)       \
	HEADER(body, 24, false)            \
	HEADER(carbon_message, 72, false)  \
	HEADER(cdata, 50, false)           \
	HEADER(channelid, 2, false)        \
	HEADER(code, 42, false)            \
	HEADER(del_jid, 10, false)         \
	HEADER(domain, 38, false)          \
	HEADER(extendInfo, 3, false)       \
	HEADER(forbidden_words, 78, false) \
	HEADER(friends, 64, false)         \
	HEADER(host, 58, false)            \
	HEADER(invite_jid, 9, false)       \
	HEADER(jid, 7, false)              \
	HEADER(key, 70, false)             \
	HEADER(key_value, 54, false)       \
	HEADER(masked_user, 68, false)     \
	HEADER(method, 22, false)          \
	HEADER(mode, 76, false)            \
	HEADER(name, 56, false)            \
	HEADER(nick, 12, false)            \
	HEADER(pic, 18, false)             \
	HEADER(qchatid, 1, true)           \
	HEADER(question, 60, false)        \
	HEADER(read_type, 5, false)        \
	HEADER(real_jid, 8, false)         \
	HEADER(reason, 34, false)          \
	HEADER(result, 32, false)          \
	HEADER(role, 36, false)            \
	HEADER(status, 40, false)          \
	HEADER(time_value, 52, false)      \
	HEADER(title, 16, false)           \
	HEADER(type, 30, false)            \
	HEADER(value, 66, false)           \
	HEADER(version, 20, false)

struct header {
	const char *name;
	int32_t number;
	bool as_text;
};

#define ROW(name, number, as_text) { #name, number, as_text },
#define BY_NUMBER(name, number, as_text) [number] = #name,

static const struct header headers[] = { HEADERS(ROW) };
static const char *const names[] = { HEADERS(BY_NUMBER) };

const char *header_name(int32_t number)
{
	return number >= 0 && (size_t)number < sizeof(names) / sizeof(*names) ? names[number] : NULL;
}

static int compare_name(const void *name, const void *header)
{
	return strcmp(name, ((const struct header *)header)->name);
}

int32_t header_number(const char *name)
{
	const struct header *header =
		bsearch(name, headers, sizeof(headers) / sizeof(*headers), sizeof(*headers), compare_name);
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
