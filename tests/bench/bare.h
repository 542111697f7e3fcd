/* SPDX-License-Identifier: MIT */
#ifndef STK_BENCH_BARE_H
#define STK_BENCH_BARE_H

#include <stdbool.h>

struct bare_options {
	const char *mode;
	const char *like, *dir; /* sqlite */
	const char *crt, *key;  /* echo, fan: PEM; NULL: in clear */
	const char *priorities; /* GnuTLS */
	long group, threads, iterations;
	double seconds;
};

void bare_die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* bare_loops.c: each runs for SECONDS and prints what it did as one JSON object. */
void bare_sqlite(const struct bare_options *options);
void bare_pbkdf2(const struct bare_options *options);

/* bare_net.c: serves on 127.0.0.1, prints the port as a JSON object, and goes on until standard input ends. What comes
 * in on a connection goes back on it; FAN: what comes in on the first one goes to all. */
void bare_serve(const struct bare_options *options, bool fan);

#endif
