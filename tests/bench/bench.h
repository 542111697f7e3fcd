/* SPDX-License-Identifier: MIT */
#ifndef STK_BENCH_BENCH_H
#define STK_BENCH_BENCH_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#include "tests/bench/frames.h"
#include "tests/bench/measure.h"

#define BENCH_FAULTS 8
#define BENCH_JID 256
#define EXIT_FAULT 1  /* something was lost, reordered, refused or too late; the result says what */
#define EXIT_CANNOT 2 /* wrong arguments, or there was nothing to measure */

enum tls_kind { TLS_OFF, TLS_START, TLS_DIRECT };
enum load_kind { KIND_CHAT, KIND_NOTIFY, KIND_PING };

struct options {
	const char *mode;
	const char *address, *domain, *prefix, *password, *rsa_key;
	const char *cpu, *server_pid; /* kept as text; NULL: not given */
	const char *record;           /* a file; NULL: none */
	int64_t port, users, sessions, concurrency, pairs, window, body, devices, sources, messages;
	double rate, login_rate, seconds, warmup, settle, ping_every, limit;
	int tls, kind, wrap; /* enums */
	bool coalesce, marks, bare, short_resource;
};

struct bench;
struct session;
struct flow;

/* What a session is for. */
struct role {
	void (*online)(struct bench *bench, struct session *session);
	void (*frame)(struct bench *bench, struct session *session, const struct frame *frame);
	void (*ended)(struct bench *bench, struct session *session,
		      const char *why); /* by the peer or by a fault; it is freed after */
};

struct churn {
	unsigned first_user, users, next_user, busy;
	double rate; /* logins a second; 0: as many as go */
	int64_t since;
	bool on;
	uint64_t started, done, failed;
	struct histogram times;
};

struct traffic {
	enum load_kind kind;
	struct flow *flows;
	unsigned flow_count;
	unsigned parts;       /* arrivals that a message causes: deliveries, and a receipt */
	bool receipts_wanted; /* a server sends them for chat, startalk-bare does not */
	double rate;          /* messages a second; 0: closed loop */
	bool on, primed;      /* primed: a closed loop has begun */
	uint64_t sent, delivered, receipts, gaps, reordered, altered, refused, lost, lost_receipts;
	uint64_t marks, marks_arrived, mark_receipts, lost_marks; /* marks: sent */
	uint64_t last_pings, last_answers;
	uint64_t last;  /* no more than so many are sent */
	uint64_t paced; /* open loop: how many were sent since SINCE, and so when the next one is due */
	int64_t since, last_arrival;
	struct histogram delivery, receipt;
	FILE *record; /* NULL: none is kept */
	char *text;   /* of the bodies */
	size_t text_len;
};

struct idle {
	struct session **sessions;
	unsigned count;
	int64_t since;
	uint64_t pings, answers;
};

struct bench {
	struct options options;
	struct sockaddr_in target;
	int epoll;
	int64_t start, now, deadline; /* microseconds of the monotonic clock */
	int64_t measure_from;         /* latencies of what was sent earlier do not count */
	struct codec codec;
	gnutls_certificate_credentials_t credentials;
	gnutls_pubkey_t rsa;
	uint8_t *raw, *plain; /* scratch for input */
	struct session *sessions, *graveyard, *dirty;
	uint32_t session_count, online, logging_in;
	uint32_t serial;
	uint64_t retries; /* storm: connections that were lost before the server's first word */
	unsigned run; /* tells our messages from those of another run */
	int64_t next_look;
	int64_t login_bound; /* microseconds that a login may take */
	struct churn churn;
	struct traffic traffic;
	struct idle idle;
	char faults[BENCH_FAULTS][256];
	unsigned fault_count;
	bool reached; /* a connection came about once */
	bool stop;
};

/* Prints to standard error and exits with EXIT_CANNOT. */
void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Notes what makes the result bad; the first BENCH_FAULTS are kept. */
void bench_fault(struct bench *bench, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* options.c */
void options_parse(struct options *options, int argc, char **argv);

/* engine.c: the loop, and bringing sessions up */
void engine_open(struct bench *bench);
void engine_close(struct bench *bench);
/* Waits for input until UNTIL and handles it, with logins, pings and messages that are due. False: stop. */
bool engine_turn(struct bench *bench, int64_t until);
bool engine_run(struct bench *bench, double seconds);
/* Brings up COUNT sessions, of user FIRST alone or of as many users from FIRST on; --concurrency of them at a time.
 * False: stop. */
bool engine_ramp(struct bench *bench, const struct role *role, unsigned first, unsigned count, bool one_user,
		 struct session **out);

/* churn.c: logins that come and go */
void churn_start(struct bench *bench, unsigned first_user, unsigned users, double rate);
void churn_pump(struct bench *bench);
int64_t churn_due(const struct bench *bench);

/* traffic.c: messages along flows */
void traffic_init(struct bench *bench, enum load_kind kind, double rate);
void traffic_add(struct bench *bench, struct session *from, struct session **to, unsigned to_count);
void traffic_start(struct bench *bench);
void traffic_pump(struct bench *bench);
int64_t traffic_due(const struct bench *bench);
bool traffic_exhausted(const struct bench *bench); /* all of --messages were sent, and have arrived */
/* Stops sending, waits for what is under way, and notes what is missing or out of order as faults. */
void traffic_finish(struct bench *bench);
void traffic_fini(struct bench *bench);
extern const struct role traffic_role;

/* idle.c: sessions that only ping */
void idle_start(struct bench *bench, struct session **sessions, unsigned count);
void idle_pump(struct bench *bench);
int64_t idle_due(const struct bench *bench);
void idle_finish(struct bench *bench);
extern const struct role idle_role;

/* modes.c */
struct mode {
	const char *name, *help;
	void (*run)(struct bench *bench);
};
extern const struct mode modes[];
const struct mode *mode_find(const char *name);

#endif
