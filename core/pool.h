/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_POOL_H
#define STK_CORE_POOL_H

#include <stddef.h>

/* Memory in pieces of two sizes, for what one loop's thread takes and another's gives back all the time. */
enum pool { POOL_SMALL, POOL_LARGE };

#define POOL_SMALL_SIZE 128
#define POOL_LARGE_SIZE 2048

/* A piece, uninitialised and aligned as by malloc(); NULL: out of memory. Thread-safe. */
void *pool_take(enum pool pool) __attribute__((malloc, warn_unused_result));
/* Gives a piece back that any thread took. Thread-safe. */
void pool_give(enum pool pool, void *piece);
/* The calling thread keeps pieces from now on; in all other threads these are but malloc() and free(). */
void pool_thread_init(void);
/* The calling thread gives back what it keeps. Call at its end. */
void pool_thread_fini(void);

#endif
