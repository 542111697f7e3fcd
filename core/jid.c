/* SPDX-License-Identifier: MIT */
/* JIDs as text: taken apart, compared, folded. Which JIDs exist is not its business. */

#include "core/jid.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <unicase.h>
#include <uninorm.h>
#include <unistr.h>

/* Eight bytes at a time: the JIDs of every message are looked at. */
#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))
#define HIGH_BITS  EACH(0x80u)

/* The word at I of LEN bytes; the last one begins before it, or is filled up with what nobody minds. */
static uint64_t get_word(const char *text, size_t len, size_t i)
{
	uint64_t word = EACH('a');
	if (len < sizeof(word)) {
		memcpy(&word, text, len);
	} else {
		memcpy(&word, text + (i + sizeof(word) <= len ? i : len - sizeof(word)), sizeof(word));
	}
	return word;
}

/* Has a byte of WORD below LEAST? */
static bool has_below(uint64_t word, uint8_t least)
{
	return (word - EACH(least)) & ~word & HIGH_BITS;
}

static bool is_clean(const char *part, size_t len, uint8_t least)
{
	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		uint64_t word = get_word(part, len, i);
		if (has_below(word, least) || has_below(word ^ EACH(0x7fu), 1)) {
			return false;
		}
	}
	return true;
}

/* Is it ASCII without capitals, so that folding changes nothing? */
static bool is_folded(const char *part, size_t len)
{
	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		uint64_t word = get_word(part, len, i);
		uint64_t capitals = (word + EACH(0x80u - 'A')) & ~(word + EACH(0x7fu - 'Z')) & HIGH_BITS;
		if (word & HIGH_BITS || capitals) {
			return false;
		}
	}
	return true;
}

int stk_jid_parse(struct stk_jid *jid, const char *text)
{
	*jid = (struct stk_jid){ 0 };
	if (!text) {
		return -EINVAL;
	}
	size_t all = strlen(text);
	const char *slash = memchr(text, '/', all);
	size_t len = slash ? (size_t)(slash - text) : all;
	const char *at = memchr(text, '@', len);
	if (at) {
		jid->node = text;
		jid->node_len = (size_t)(at - text);
	}
	jid->domain = at ? at + 1 : text;
	jid->domain_len = len - (size_t)(jid->domain - text);
	if (slash) {
		jid->resource = slash + 1;
		jid->resource_len = all - len - 1;
	}
	bool ok = jid->domain_len && (!at || jid->node_len) && (!slash || jid->resource_len) &&
	          jid->node_len <= STK_JID_PART_MAX && jid->domain_len <= STK_JID_PART_MAX &&
	          jid->resource_len <= STK_JID_PART_MAX && !memchr(jid->domain, '@', jid->domain_len) &&
	          is_clean(text, len, ' ' + 1) && is_clean(jid->resource, jid->resource_len, ' ');
	return ok ? 0 : -EINVAL;
}

/* Returns the bytes written, or -errno. */
static int fold_part(const char *part, size_t len, char *out, size_t size)
{
	if (is_folded(part, len)) {
		if (len >= size) {
			return -ENAMETOOLONG;
		}
		memcpy(out, part, len);
		return (int)len;
	}
	size_t ascii = 0;
	while (ascii < len && (unsigned char)part[ascii] < 0x80) {
		ascii++;
	}
	if (ascii == len) {
		if (len >= size) {
			return -ENAMETOOLONG;
		}
		for (size_t i = 0; i < len; i++) {
			out[i] = part[i] >= 'A' && part[i] <= 'Z' ? (char)(part[i] + 'a' - 'A') : part[i];
		}
		return (int)len;
	}
	if (u8_check((const uint8_t *)part, len)) {
		return -EINVAL;
	}
	size_t folded_len = 0;
	uint8_t *folded = u8_casefold((const uint8_t *)part, len, NULL, UNINORM_NFC, NULL, &folded_len);
	int rc = !folded ? -ENOMEM : folded_len >= size || folded_len > STK_JID_PART_MAX ? -ENAMETOOLONG : (int)folded_len;
	if (rc > 0) {
		memcpy(out, folded, folded_len);
	}
	free(folded);
	return rc;
}

/* The bare part; without a NUL, though SIZE has room for it. Returns the bytes written, or -errno. */
static int fold_bare(const struct stk_jid *jid, char *out, size_t size)
{
	size_t len = 0;
	int rc;
	if (jid->node_len) {
		rc = fold_part(jid->node, jid->node_len, out, size);
		if (rc < 0) {
			return rc;
		}
		len = (size_t)rc;
		if (len + 1 >= size) {
			return -ENAMETOOLONG;
		}
		out[len++] = '@';
	}
	rc = fold_part(jid->domain, jid->domain_len, out + len, size - len);
	return rc < 0 ? rc : (int)len + rc;
}

int stk_jid_fold(const char *text, char *out, size_t size)
{
	struct stk_jid jid;
	int rc = stk_jid_parse(&jid, text);
	if (rc < 0) {
		return rc;
	}
	rc = fold_bare(&jid, out, size);
	if (rc < 0) {
		return rc;
	}
	size_t len = (size_t)rc, rest = jid.resource_len ? jid.resource_len + 1 : 0; /* with its slash */
	if (len + rest >= size) {
		return -ENAMETOOLONG;
	}
	if (rest) {
		memcpy(out + len, jid.resource - 1, rest);
	}
	out[len + rest] = '\0';
	return 0;
}

int jid_fold_bare(const char *text, const struct stk_jid *jid, struct folded *folded)
{
	folded->text = text;
	folded->len = (size_t)(jid->domain - text) + jid->domain_len;
	if (is_folded(text, folded->len)) {
		return 0;
	}
	int rc = fold_bare(jid, folded->room, sizeof(folded->room));
	folded->text = folded->room;
	folded->len = rc < 0 ? 0 : (size_t)rc;
	return rc < 0 ? rc : 0;
}

int stk_jid_bare(const char *text, char *out, size_t size)
{
	struct stk_jid jid;
	int rc = stk_jid_parse(&jid, text);
	if (rc < 0) {
		return rc;
	}
	size_t len = (size_t)(jid.domain - text) + jid.domain_len;
	if (len >= size) {
		return -ENAMETOOLONG;
	}
	memcpy(out, text, len);
	out[len] = '\0';
	return 0;
}

bool stk_jid_same(const char *a, const char *b)
{
	char fa[STK_JID_MAX + 1], fb[STK_JID_MAX + 1];
	if (a && b && strcmp(a, b) == 0) {
		struct stk_jid jid;
		return stk_jid_parse(&jid, a) == 0;
	}
	return stk_jid_fold(a, fa, sizeof(fa)) == 0 && stk_jid_fold(b, fb, sizeof(fb)) == 0 && strcmp(fa, fb) == 0;
}

bool stk_jid_same_bare(const char *a, const char *b)
{
	struct stk_jid ja, jb;
	struct folded fa, fb;
	if (stk_jid_parse(&ja, a) < 0 || stk_jid_parse(&jb, b) < 0) {
		return false;
	}
	size_t len = (size_t)(ja.domain - a) + ja.domain_len;
	if (len == (size_t)(jb.domain - b) + jb.domain_len && memcmp(a, b, len) == 0) {
		return true;
	}
	return jid_fold_bare(a, &ja, &fa) == 0 && jid_fold_bare(b, &jb, &fb) == 0 && fa.len == fb.len && memcmp(fa.text, fb.text, fa.len) == 0;
}
