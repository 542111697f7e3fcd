/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_SERVER_H
#define STK_CORE_SERVER_H

#include <stdbool.h>
#include <stdio.h>

#include <ev.h>

#include "core/conf.h"
#include "core/gate.h"
#include "core/handover.h"
#include "core/loop.h"
#include "core/mailbox.h"
#include "core/memory.h"
#include "core/module.h"
#include "core/refusals.h"
#include "core/session.h"
#include "core/settings.h"
#include "core/throttle.h"
#include "core/workers.h"

struct db;

/* Mail to the router beside the loop's events. */
enum { MAIL_JOB_DONE = 100, MAIL_POST, MAIL_WRITTEN };

/* The whole server. Everything here belongs to the router thread but what has a lock of its own (inbox, workers, db). */
struct server {
	struct ev_loop *ev;
	struct mailbox inbox; /* events of the I/O loops, finished jobs and writes, posts */
	char *config;            /* the file's name, as given */
	struct conf *conf;       /* what is in effect */
	struct conf *first_conf; /* what the server started with, after a reload; else NULL */
	struct settings *settings;
	struct tls_credentials *credentials;
	struct loop *loop; /* the router thread's; it knows the others */
	int *bound; /* sockets, in the order of settings->listen, until the loop has them (then -1) */
	size_t bound_count;
	struct workers *workers;
	struct db *db;
	struct throttle *throttle;
	struct gate *gate;
	struct refusals *refusals;
	struct module_registry modules;
	struct session_table sessions;
	struct ask *asks;     /* what modules have asked clients */
	uint64_t ask_ids, carried_ids; /* given out so far */
	size_t carried;       /* sessions that modules carry */
	struct ev_timer job_timer;      /* the next look at what runs */
	double stop_at;                 /* when a stop waits for jobs no more, on the monotonic clock; 0: no stop */
	const char *const *log_modules; /* NAME=LEVEL each, of the command line; NULL-terminated, or NULL */
	int64_t started_at; /* ms since the epoch */
	struct memory_watch memory;
	bool dry, stopping, memory_full;
	int sockets[HANDOVER_MAX]; /* that listened, for the process that goes on in our place */
	size_t socket_count;
	bool restart; /* when it has stopped the program is executed anew */
	bool left; /* closed, but jobs or writes that do not end still run: the process must end without a clean-up */
};

/* Reads the configuration and loads the modules. LOG: NAME=LEVEL each, before what the configuration says; NULL-terminated, or NULL.
 * DRY: for --plan, nothing is locked and nobody listens. STATE_DIR: instead of the configured one, or NULL. 0 or -errno, faults are told. */
int server_open(struct server *server, const char *config, const char *const *log, bool dry, const char *state_dir, conf_report_fn *report,
                void *arg);
/* Listens and runs until SIGTERM or SIGINT. 0 or -errno. */
int server_run(struct server *server);
void server_close(struct server *server);
/* Prints modules, handlers and hooks in the order in which they act. */
void server_print_plan(const struct server *server, FILE *out);

#endif
