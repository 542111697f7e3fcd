/* SPDX-License-Identifier: MIT */
/* The command line of the load generator: one table that is parser, range and help. */

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench.h"

enum option_type { OPTION_TEXT, OPTION_INT, OPTION_REAL, OPTION_CHOICE, OPTION_FLAG };

struct option_spec {
	const char *name;
	enum option_type type;
	size_t offset; /* in struct options */
	const char *preset;
	double min, max;
	const char *help;
	const char *const *choices;
};

static const char *const tls_names[] = { "off", "starttls", "direct", NULL };
static const char *const kind_names[] = { "chat", "notify", NULL };
static const char *const wrap_names[] = { "auto", "tea", "gzip", "none", NULL };

#define AT(field) offsetof(struct options, field)
static const struct option_spec specs[] = {
	{ "address", OPTION_TEXT, AT(address), "127.0.0.1", 0, 0, "where the server listens; an address in 127.0.0.0/8",
	  NULL },
	{ "port", OPTION_INT, AT(port), "5202", 1, 65535, "its port", NULL },
	{ "domain", OPTION_TEXT, AT(domain), "example.org", 0, 0, "the users' domain", NULL },
	{ "prefix", OPTION_TEXT, AT(prefix), "u", 0, 0, "users are called PREFIX00000, PREFIX00001 ...", NULL },
	{ "users", OPTION_INT, AT(users), "1000", 1, 100000, "how many there are", NULL },
	{ "password", OPTION_TEXT, AT(password), "bench", 0, 0, "the password of all of them", NULL },
	{ "rsa-key", OPTION_TEXT, AT(rsa_key), NULL, 0, 0,
	  "send passwords encrypted for this public key (PEM); else as they are", NULL },
	{ "tls", OPTION_CHOICE, AT(tls), "off", 0, 0, "off, starttls or direct", tls_names },
	{ "sources", OPTION_INT, AT(sources), "16", 0, 1000,
	  "how many addresses of 127.0.0.0/8 to connect from; 0: the kernel's choice", NULL },
	{ "concurrency", OPTION_INT, AT(concurrency), "32", 1, 100000, "logins under way at a time", NULL },
	{ "sessions", OPTION_INT, AT(sessions), "100", 1, 100000, "idle, ping, mixed, storm: sessions", NULL },
	{ "pairs", OPTION_INT, AT(pairs), "50", 1, 50000, "chat, mixed: senders, each with a receiver", NULL },
	{ "devices", OPTION_INT, AT(devices), "8", 1, 10000, "fanout: sessions of the receiving user", NULL },
	{ "window", OPTION_INT, AT(window), "8", 1, 100000, "closed loop: messages under way for each sender", NULL },
	{ "rate", OPTION_REAL, AT(rate), "0", 0, 1e7,
	  "chat, ping, fanout, mixed: messages a second in all, an open loop; 0: a closed loop", NULL },
	{ "login-rate", OPTION_REAL, AT(login_rate), "20", 0, 1e6, "mixed: logins a second", NULL },
	{ "body", OPTION_INT, AT(body), "100", 1, BODY_MAX, "bytes of text in a message", NULL },
	{ "kind", OPTION_CHOICE, AT(kind), "chat", 0, 0,
	  "chat: chat messages, with receipts; notify: presence notices, without", kind_names },
	{ "wrap", OPTION_CHOICE, AT(wrap), "auto", 0, 0,
	  "auto (as clients do), tea, gzip or none: how messages are wrapped", wrap_names },
	{ "marks", OPTION_FLAG, AT(marks), NULL, 0, 0,
	  "chat kind: receivers send a delivered mark for each message, as desktop clients do", NULL },
	{ "coalesce", OPTION_FLAG, AT(coalesce), NULL, 0, 0,
	  "what one turn sends on a connection goes out in one write", NULL },
	{ "bare", OPTION_FLAG, AT(bare), NULL, 0, 0,
	  "login, chat, fanout: the other end is startalk-bare echo or fan, which has no logins and no receipts",
	  NULL },
	{ "short-resource", OPTION_FLAG, AT(short_resource), NULL, 0, 0,
	  "resources that name no platform, so that a user's devices are not told of one another's", NULL },
	{ "ping-every", OPTION_REAL, AT(ping_every), "90", 0, 86400,
	  "idle, mixed: seconds between the pings of a session; 0: none", NULL },
	{ "seconds", OPTION_REAL, AT(seconds), "5", 0.1, 86400, "how long is measured", NULL },
	{ "warmup", OPTION_REAL, AT(warmup), "1", 0, 3600, "seconds of load before that", NULL },
	{ "settle", OPTION_REAL, AT(settle), "2", 0, 3600, "idle: seconds before memory is read", NULL },
	{ "messages", OPTION_INT, AT(messages), "0", 0, 1e9, "end when so many were measured; 0: when the time is over",
	  NULL },
	{ "record", OPTION_TEXT, AT(record), NULL, 0, 0,
	  "chat: write a line here for each receipt, delivery and mark that came: kind, id of the message, when it was due and "
	  "when that came (microseconds of the monotonic clock)",
	  NULL },
	{ "limit", OPTION_REAL, AT(limit), "300", 1, 86400, "seconds after which it ends whatever happens", NULL },
	{ "server-pid", OPTION_TEXT, AT(server_pid), NULL, 0, 0,
	  "the server's process, for its processor time and memory", NULL },
	{ "cpu", OPTION_TEXT, AT(cpu), NULL, 0, 0, "run on this processor only", NULL },
};
#define SPECS (sizeof(specs) / sizeof(*specs))

static void usage(void)
{
	printf("usage: startalk-bench MODE [OPTION]...\n"
	       "Puts load on a server on this machine and prints what it measured as one JSON object.\n\nmodes:\n");
	for (const struct mode *mode = modes; mode->name; mode++) {
		printf("  %-8s %s\n", mode->name, mode->help);
	}
	printf("\noptions:\n");
	for (size_t i = 0; i < SPECS; i++) {
		printf("  --%-12s %s%s%s%s\n", specs[i].name, specs[i].help, specs[i].preset ? " [" : "",
		       specs[i].preset ? specs[i].preset : "", specs[i].preset ? "]" : "");
	}
	printf("\nexit status: 0: all went well; 1: something was lost, late, refused or out of order, see \"faults\"; "
	       "2: it could not run.\n");
}

static void set_choice(const struct option_spec *spec, const char *value, int *out)
{
	for (int i = 0; spec->choices[i]; i++) {
		if (strcmp(value, spec->choices[i]) == 0) {
			*out = i;
			return;
		}
	}
	die("--%s: '%s' is none of: %s", spec->name, value, spec->help);
}

static void set(const struct option_spec *spec, struct options *options, const char *value)
{
	char *at = (char *)options + spec->offset, *end;
	double number = 0;
	if (spec->type == OPTION_INT || spec->type == OPTION_REAL) {
		errno = 0;
		number = strtod(value, &end);
		bool whole = spec->type == OPTION_REAL || number == (double)(int64_t)number;
		if (end == value || *end || errno || !(number >= spec->min && number <= spec->max) || !whole) {
			die("--%s: '%s' is no%s number from %g to %g", spec->name, value,
			    spec->type == OPTION_INT ? " whole" : "", spec->min, spec->max);
		}
	}
	switch (spec->type) {
	case OPTION_TEXT: memcpy(at, &value, sizeof(value)); break;
	case OPTION_INT: memcpy(at, &(int64_t){ (int64_t)number }, sizeof(int64_t)); break;
	case OPTION_REAL: memcpy(at, &number, sizeof(number)); break;
	case OPTION_CHOICE: set_choice(spec, value, (int *)(void *)at); break;
	case OPTION_FLAG: memcpy(at, &(bool){ true }, sizeof(bool)); break;
	}
}

void options_parse(struct options *options, int argc, char **argv)
{
	struct option known[SPECS + 2] = { 0 };
	int chosen, c;
	for (size_t i = 0; i < SPECS; i++) {
		known[i] = (struct option){ .name = specs[i].name,
					    .has_arg = specs[i].type == OPTION_FLAG ? no_argument : required_argument };
		if (specs[i].preset) {
			set(&specs[i], options, specs[i].preset);
		}
	}
	known[SPECS] = (struct option){ .name = "help" };
	while ((c = getopt_long(argc, argv, "", known, &chosen)) == 0) {
		if (chosen == SPECS) {
			usage();
			exit(0);
		}
		set(&specs[chosen], options, optarg);
	}
	if (c != -1) {
		die("see --help");
	}
	if (optind + 1 != argc) {
		die("one mode is needed; see --help");
	}
	options->mode = argv[optind];
}
