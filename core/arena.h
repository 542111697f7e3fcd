/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_ARENA_H
#define STK_CORE_ARENA_H

#include <stddef.h>

/* Memory that is taken piece by piece and given back all at once. Not thread-safe. */
struct arena;

/* An arena whose first block has room for FIRST bytes. NULL: out of memory. */
struct arena *arena_new(size_t first);
/* SIZE bytes aligned for any type, uninitialised; NULL: out of memory, or the arena's limit is reached. */
void *arena_alloc(struct arena *arena, size_t size) __attribute__((malloc, alloc_size(2), warn_unused_result));
/* A copy of LEN bytes of TEXT with a NUL behind it. */
char *arena_strndup(struct arena *arena, const char *text, size_t len) __attribute__((warn_unused_result));
/* At most LIMIT bytes may be taken from now on in all (0: no limit). */
void arena_set_limit(struct arena *arena, size_t limit);
size_t arena_used(const struct arena *arena);
/* Frees all of it and stores NULL. NULL and *NULL are accepted. */
void arena_free(struct arena **arena);

#endif
