/* SPDX-License-Identifier: MIT */
/* Arenas: blocks of growing size, cut from the front. Owns the memory of stanzas and of what protobuf-c unpacks;
 * knows nothing of what is stored. */

#include "core/arena.h"

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/pool.h"

#define BLOCK_MIN 256
#define BLOCK_MAX (256 * 1024)

struct block {
	struct block *next;
	size_t size, used;
	alignas(max_align_t) unsigned char data[];
};

#define POOLED (POOL_LARGE_SIZE - sizeof(struct block)) /* a block of this size is a piece of the pool */

struct arena {
	struct block *blocks; /* newest first; the arena itself lies in the oldest */
	size_t used, limit;
};

static size_t align_up(size_t n)
{
	return (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
}

/* Usual stanzas fit into a piece of the pool. */
static struct block *new_block(size_t size)
{
	bool pooled = size <= POOLED && size > POOLED / 4;
	struct block *block = pooled ? pool_take(POOL_LARGE) : malloc(sizeof(*block) + size);
	if (!block) {
		return NULL;
	}
	*block = (struct block){ .size = pooled ? POOLED : size };
	return block;
}

static void free_block(struct block *block)
{
	if (block->size == POOLED) {
		pool_give(POOL_LARGE, block);
	} else {
		free(block);
	}
}

struct arena *arena_new(size_t first)
{
	if (first > SIZE_MAX / 2) {
		return NULL;
	}
	struct block *block = new_block(align_up(sizeof(struct arena)) + align_up(first < BLOCK_MIN ? BLOCK_MIN : first));
	if (!block) {
		return NULL;
	}
	block->used = align_up(sizeof(struct arena));
	struct arena *arena = (struct arena *)(void *)block->data;
	*arena = (struct arena){ .blocks = block };
	return arena;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	if (size > SIZE_MAX / 2) {
		return NULL;
	}
	size = align_up(size ? size : 1);
	if (arena->limit && size > arena->limit - arena->used) {
		return NULL;
	}
	struct block *block = arena->blocks;
	if (size > block->size - block->used) {
		size_t want = block->size < BLOCK_MAX / 2 ? block->size * 2 : BLOCK_MAX;
		block = new_block(size > want ? size : want);
		if (!block) {
			return NULL;
		}
		block->next = arena->blocks;
		arena->blocks = block;
	}
	void *piece = block->data + block->used;
	block->used += size;
	arena->used += size;
	return piece;
}

char *arena_strndup(struct arena *arena, const char *text, size_t len)
{
	if (len == SIZE_MAX) {
		return NULL;
	}
	char *copy = arena_alloc(arena, len + 1);
	if (copy) {
		memcpy(copy, text, len);
		copy[len] = '\0';
	}
	return copy;
}

void arena_set_limit(struct arena *arena, size_t limit)
{
	arena->limit = limit && limit < arena->used ? arena->used : limit;
}

size_t arena_used(const struct arena *arena)
{
	return arena->used;
}

void arena_free(struct arena **arena)
{
	if (!arena || !*arena) {
		return;
	}
	struct block *block = (*arena)->blocks;
	*arena = NULL;
	while (block) {
		struct block *next = block->next;
		free_block(block);
		block = next;
	}
}
