/* SPDX-License-Identifier: MIT */
#ifndef WORDFILTER_WORDS_H
#define WORDFILTER_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/* A list of words, read from a file and never changed. Any thread may search it. */
struct words;

/* One word a line, UTF-8; lines that begin with # and empty ones mean nothing. NULL with ERR, which names file and
 * line. */
struct words *words_read(const char *path, char *err, size_t errlen);
void words_free(struct words *words); /* NULL is accepted */
/* How many words of TEXT are in the list. MASKED (may be NULL) becomes TEXT with *** for each of them, malloc'd, or
 * NULL: none, or out of memory. */
size_t words_find(const struct words *words, const char *text, char **masked);

#endif
