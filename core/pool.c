/* SPDX-License-Identifier: MIT */
/* Pools: stacks of equal pieces, one a thread, and a common place where threads leave or find whole bundles without a
 * lock. Spares the C library what it is slow at: pieces that are freed by another thread than took them. */

#include "core/pool.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define BUNDLE  32 /* pieces that change hands together */
#define KEPT    (2 * BUNDLE)
#define BUNDLES 32 /* in the common place; what is beyond goes back to the C library */

#if defined(__SANITIZE_ADDRESS__)
#define POOLING false /* it would see no use after free */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOLING false
#endif
#endif
#ifndef POOLING
#define POOLING true
#endif

/* What a piece is while nobody has it. */
struct piece {
	struct piece *next;   /* in the bundle */
	struct piece *bundle; /* the next bundle, in the first piece of one */
};

struct common {
	alignas(64) _Atomic(struct piece *) bundles;
	atomic_int count; /* about */
};

struct kept {
	struct piece *first;
	unsigned count;
};

static const size_t sizes[] = { [POOL_SMALL] = POOL_SMALL_SIZE, [POOL_LARGE] = POOL_LARGE_SIZE };
static struct common commons[2];
static _Thread_local struct kept kept[2];
static _Thread_local bool pooling;

/* FIRST to LAST are bundles. Nobody ever takes a single one out of the middle, so that the stack cannot be mistaken. */
static void put_bundles(struct common *common, struct piece *first, struct piece *last)
{
	struct piece *top = atomic_load_explicit(&common->bundles, memory_order_relaxed);
	do {
		last->bundle = top;
	} while (!atomic_compare_exchange_weak_explicit(&common->bundles, &top, first, memory_order_acq_rel, memory_order_relaxed));
}

static void free_bundle(struct piece *piece)
{
	while (piece) {
		struct piece *next = piece->next;
		free(piece);
		piece = next;
	}
}

/* All bundles are taken for a moment, one is kept. */
static void fetch(struct common *common, struct kept *mine)
{
	struct piece *bundle = atomic_load_explicit(&common->bundles, memory_order_relaxed);
	bundle = bundle ? atomic_exchange_explicit(&common->bundles, NULL, memory_order_acq_rel) : NULL;
	if (!bundle) {
		return;
	}
	struct piece *rest = bundle->bundle, *last = rest;
	while (last && last->bundle) {
		last = last->bundle;
	}
	if (rest) {
		put_bundles(common, rest, last);
	}
	atomic_fetch_sub_explicit(&common->count, 1, memory_order_relaxed);
	mine->first = bundle;
	mine->count = BUNDLE;
}

static void leave(struct common *common, struct kept *mine)
{
	struct piece *first = mine->first, *last = first;
	for (unsigned i = 1; i < BUNDLE; i++) {
		last = last->next;
	}
	mine->first = last->next;
	mine->count -= BUNDLE;
	last->next = NULL;
	if (atomic_fetch_add_explicit(&common->count, 1, memory_order_relaxed) < BUNDLES) {
		put_bundles(common, first, first);
	} else {
		atomic_fetch_sub_explicit(&common->count, 1, memory_order_relaxed);
		free_bundle(first);
	}
}

void *pool_take(enum pool pool)
{
	struct kept *mine = &kept[pool];
	if (!mine->first && pooling) {
		fetch(&commons[pool], mine);
	}
	struct piece *piece = mine->first;
	if (!piece) {
		return malloc(sizes[pool]);
	}
	mine->first = piece->next;
	mine->count--;
	return piece;
}

void pool_give(enum pool pool, void *memory)
{
	struct kept *mine = &kept[pool];
	struct piece *piece = memory;
	if (!pooling || !piece) {
		free(piece);
		return;
	}
	piece->next = mine->first;
	mine->first = piece;
	if (++mine->count >= KEPT) {
		leave(&commons[pool], mine);
	}
}

void pool_thread_init(void)
{
	pooling = POOLING;
}

void pool_thread_fini(void)
{
	pooling = false;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		free_bundle(kept[i].first);
		kept[i] = (struct kept){ 0 };
		struct piece *bundle = atomic_exchange(&commons[i].bundles, NULL);
		while (bundle) {
			struct piece *next = bundle->bundle;
			free_bundle(bundle);
			atomic_fetch_sub(&commons[i].count, 1);
			bundle = next;
		}
	}
}
