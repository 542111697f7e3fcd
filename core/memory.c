/* SPDX-License-Identifier: MIT */
/* Memory in all: what the process has of it, once a second, against max-memory. Past it new connections are refused, by the loop;
 * when most connections have gone, what they had goes back to the system. What single sessions may take is bounded elsewhere. */

#include "core/memory.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/server.h"

#define LOOK_EVERY 1.0
#define TRIM_EVERY 10.0 /* seconds; giving memory back takes a while, and may be in vain */
#define PEAK_MIN   64   /* connections that had more than a little memory */

static int64_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

static int64_t read_resident(int fd)
{
	char text[128], *at;
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	if (n <= 0) {
		return 0;
	}
	text[n] = '\0';
	strtoll(text, &at, 10); /* the size; resident pages follow */
	return strtoll(at, NULL, 10) * page_size();
}

static int64_t limit_of(const struct server *server)
{
	int64_t set = server->settings->limits.max_memory;
	return set ? set : (int64_t)sysconf(_SC_PHYS_PAGES) / 4 * 3 * page_size();
}

static void give_back(struct memory_watch *watch, double now, size_t connections)
{
	watch->trimmed_at = now;
	watch->peak = connections;
	malloc_trim(0);
}

/* Most of those who came have gone, and what the C library keeps of what they had would stay with the process. */
static void follow_connections(struct memory_watch *watch, double now, size_t connections)
{
	watch->peak = connections > watch->peak ? connections : watch->peak;
	bool gone = watch->peak >= PEAK_MIN && connections < watch->peak / 2;
	if ((gone || watch->again) && now >= watch->trimmed_at + TRIM_EVERY) {
		watch->again = gone;
		int64_t before = read_resident(watch->fd);
		give_back(watch, now, connections);
		log_write(LOG_INFO, "server: memory: most connections have gone: %" PRId64 " KiB, %" PRId64 " KiB when trimmed",
			  before / 1024, read_resident(watch->fd) / 1024);
	}
}

/* The C library keeps what was freed: it has to give that back before there is a verdict. */
static int64_t measure(struct memory_watch *watch, double now, int64_t limit)
{
	int64_t resident = read_resident(watch->fd);
	if (resident > limit && now >= watch->trimmed_at + TRIM_EVERY) {
		give_back(watch, now, watch->peak);
		resident = read_resident(watch->fd);
	}
	return resident;
}

static void look(struct server *server)
{
	follow_connections(&server->memory, clock_now(), loop_connections(server->loop));
	int64_t limit = limit_of(server), resident = measure(&server->memory, clock_now(), limit);
	bool full = resident > limit;
	if (full != server->memory_full) {
		log_write(full ? LOG_WARNING : LOG_NOTICE, "server: memory: %" PRId64 " KiB, max-memory is %" PRId64 " KiB: new connections are %s",
		          resident / 1024, limit / 1024, full ? "refused" : "taken again");
	}
	server->memory_full = full;
	loop_refuse_all(server->loop, full ? "the server is out of memory" : NULL);
}

static void on_look(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)ev;
	(void)events;
	look(timer->data);
}

void memory_watch_start(struct server *server)
{
	server->memory.fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ev_timer_init(&server->memory.timer, on_look, LOOK_EVERY, LOOK_EVERY);
	server->memory.timer.data = server;
	ev_timer_start(server->ev, &server->memory.timer);
	look(server);
}

void memory_watch_stop(struct server *server)
{
	ev_timer_stop(server->ev, &server->memory.timer);
	if (server->memory.fd >= 0) {
		close(server->memory.fd);
	}
}
