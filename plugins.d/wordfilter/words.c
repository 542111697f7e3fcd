/* SPDX-License-Identifier: MIT */
/* Which words of a text are in a list. Owns what a word is: a run of letters, digits and marks, compared after case
 * folding and normalization, so that "STRASSE" is "Straße". Chinese and Japanese write no spaces, so there a word may
 * begin at any character. */

#include "words.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unicase.h>
#include <unictype.h>
#include <uninorm.h>
#include <unistr.h>

#define WORD_MAX 256 /* bytes of a word of the list, folded */
#define WORDS_MAX 100000
#define STARS "***"

struct words {
	size_t count;
	char **sorted; /* folded */
};

/* ---- words ---- */

enum script { SCRIPT_NONE, SCRIPT_SPACED, SCRIPT_UNSPACED };

static enum script script_of(ucs4_t c)
{
	if (uc_is_property_ideographic(c) || uc_is_block(c, uc_block(0x3040)) ||
	    uc_is_block(c, uc_block(0x30a0))) { /* kana */
		return SCRIPT_UNSPACED;
	}
	return uc_is_general_category(c, UC_CATEGORY_L) || uc_is_general_category(c, UC_CATEGORY_M) ||
			       uc_is_general_category(c, UC_CATEGORY_N)
		       ? SCRIPT_SPACED
		       : SCRIPT_NONE;
}

/* Bytes of the run at TEXT of characters of one kind, that kind in SCRIPT; 0 at the end. Of unspaced ones each is a
 * run. */
static size_t next_run(const char *text, enum script *script)
{
	const uint8_t *at = (const uint8_t *)text;
	ucs4_t c;
	int len = u8_strmbtouc(&c, at);
	if (len <= 0) {
		return 0;
	}
	*script = script_of(c);
	at += len;
	while (*script != SCRIPT_UNSPACED && (len = u8_strmbtouc(&c, at)) > 0 && script_of(c) == *script) {
		at += len;
	}
	return (size_t)(at - (const uint8_t *)text);
}

/* Folds LEN bytes into OUT. Longer than any word of a list: false. */
static bool fold(const char *text, size_t len, char out[WORD_MAX + 1])
{
	size_t size = WORD_MAX;
	uint8_t *folded = u8_casefold((const uint8_t *)text, len, NULL, UNINORM_NFC, (uint8_t *)out, &size);
	bool fits = folded == (uint8_t *)out;
	if (fits) {
		out[size] = '\0';
	} else {
		free(folded);
	}
	return fits;
}

/* ---- search ---- */

/* The first of the list that is not before WORD. */
static size_t lower_bound(const struct words *words, const char *word)
{
	size_t low = 0, high = words->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (strcmp(words->sorted[middle], word) < 0) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

/* Bytes of the longest word of the list at TEXT, whose first run has LEN bytes; 0: none. */
static size_t match(const struct words *words, const char *text, size_t len, enum script script)
{
	char folded[WORD_MAX + 1];
	size_t found = 0, run = len;
	while (run && fold(text, len, folded)) {
		size_t at = lower_bound(words, folded), size = strlen(folded);
		if (at == words->count || strncmp(words->sorted[at], folded, size) != 0) {
			break; /* nothing in the list begins so */
		}
		found = words->sorted[at][size] ? found : len;
		run = script == SCRIPT_UNSPACED ? next_run(text + len, &script) : 0;
		len += run;
	}
	return found;
}

size_t words_find(const struct words *words, const char *text, char **masked)
{
	size_t count = 0, len, size = 0;
	enum script script;
	char *out = NULL;
	FILE *copy = masked ? open_memstream(&out, &size) : NULL;
	while ((len = next_run(text, &script))) {
		size_t found = script == SCRIPT_NONE ? 0 : match(words, text, len, script);
		len = found ? found : len;
		count += found != 0;
		if (copy) {
			fwrite(found ? STARS : text, 1, found ? sizeof(STARS) - 1 : len, copy);
		}
		text += len;
	}
	bool good = copy && fclose(copy) == 0 && count;
	if (!good) {
		free(out);
	}
	if (masked) {
		*masked = good ? out : NULL;
	}
	return count;
}

/* ---- the list ---- */

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A word of the list must be one that the search can find. */
static const char *add_word(struct words *words, const char *line)
{
	char folded[WORD_MAX + 1];
	enum script script, first = SCRIPT_NONE;
	if (u8_check((const uint8_t *)line, strlen(line))) {
		return "is not UTF-8";
	}
	for (size_t at = 0, len; (len = next_run(line + at, &script)); at += len) {
		first = at ? first : script;
		if (script == SCRIPT_NONE || script != first) {
			return "is not one word";
		}
	}
	if (words->count == WORDS_MAX || !fold(line, strlen(line), folded)) {
		return words->count == WORDS_MAX ? "is one too many" : "is too long";
	}
	words->sorted[words->count] = strdup(folded);
	return words->sorted[words->count++] ? NULL : "does not fit into memory";
}

static const char *add_line(struct words *words, char *line)
{
	line[strcspn(line, "\r\n")] = '\0';
	return *line && *line != '#' ? add_word(words, line) : NULL;
}

struct words *words_read(const char *path, char *err, size_t errlen)
{
	struct words *words = calloc(1, sizeof(*words));
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0, number = 0;
	const char *fault = NULL;
	if (!words || !file || !(words->sorted = calloc(WORDS_MAX, sizeof(char *)))) {
		fault = file ? "out of memory" : strerror(errno);
	}
	while (!fault && getline(&line, &size, file) >= 0) {
		number++;
		fault = add_line(words, line);
	}
	free(line);
	if (file) {
		fclose(file);
	}
	if (fault) {
		snprintf(err, errlen, "words: %s:%zu: %s", path, number, fault);
		words_free(words);
		return NULL;
	}
	qsort(words->sorted, words->count, sizeof(char *), compare);
	return words;
}

void words_free(struct words *words)
{
	for (size_t i = 0; words && i < words->count; i++) {
		free(words->sorted[i]);
	}
	if (words) {
		free(words->sorted);
	}
	free(words);
}
