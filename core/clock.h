/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_CLOCK_H
#define STK_CORE_CLOCK_H

#include <time.h>

/* Seconds on a clock that nobody sets: for all that waits or runs out. Time of day is stk_now_ms(). */
static inline double clock_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#endif
