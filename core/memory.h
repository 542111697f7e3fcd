/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_MEMORY_H
#define STK_CORE_MEMORY_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>

struct server;

/* Looks at the memory of the process once a second. */
struct memory_watch {
	struct ev_timer timer;
	int fd; /* /proc/self/statm, open so that it can be read without a descriptor left; -1: none */
	double trimmed_at;
	size_t peak; /* connections, at most, since memory was given back */
	bool again;  /* what is freed behind the last connections is given back, too */
};

void memory_watch_start(struct server *server);
void memory_watch_stop(struct server *server);

#endif
