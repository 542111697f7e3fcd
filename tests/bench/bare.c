/* SPDX-License-Identifier: MIT */
/* startalk-bare: the work that a server cannot do without, by itself, as the measure of what it adds. This file reads
 * the command line; the loops are in bare_loops.c and bare_net.c. */

#include "tests/bench/bare.h"

#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const char usage[] = "usage: startalk-bare MODE [OPTION]...\n\n"
			    "modes:\n"
			    "  sqlite   rows into a new database, in groups; each is on disk before the next begins\n"
			    "  pbkdf2   PBKDF2-HMAC-SHA-256\n"
			    "  echo     a TCP or TLS server that sends back what it gets, until standard input ends\n"
			    "  fan      the same, but what comes on the first connection goes to all\n\n"
			    "options:\n"
			    "  --like FILE        sqlite: a database of the archive, for tables and contents\n"
			    "  --dir DIR          sqlite: where the new one is made [.]\n"
			    "  --group N          sqlite: rows in a transaction [100]\n"
			    "  --threads N        pbkdf2: [1]\n"
			    "  --iterations N     pbkdf2: [4096]\n"
			    "  --seconds S        sqlite, pbkdf2: how long [5]\n"
			    "  --crt FILE, --key FILE   echo, fan: speak TLS with this certificate (PEM)\n"
			    "  --priorities TEXT  echo, fan: the GnuTLS priority string [NORMAL]\n"
			    "  --cpu N            run on this processor only\n";

void bare_die(const char *fmt, ...)
{
	va_list args;
	fputs("startalk-bare: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

static double number(const char *name, const char *text, double least, double most)
{
	char *end;
	double value = strtod(text, &end);
	if (end == text || *end || !(value >= least && value <= most)) {
		bare_die("--%s: '%s' is no number from %g to %g", name, text, least, most);
	}
	return value;
}

static void pin(const char *text)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET((size_t)number("cpu", text, 0, CPU_SETSIZE - 1), &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0) {
		bare_die("--cpu: '%s' is no processor that this process may use", text);
	}
}

static void parse(struct bare_options *options, int argc, char **argv)
{
	enum { LIKE, DIR, GROUP, THREADS, ITERATIONS, SECONDS, CRT, KEY, PRIORITIES, CPU, HELP };
	static const struct option known[] = {
		{ "like", required_argument, NULL, LIKE },
		{ "dir", required_argument, NULL, DIR },
		{ "group", required_argument, NULL, GROUP },
		{ "threads", required_argument, NULL, THREADS },
		{ "iterations", required_argument, NULL, ITERATIONS },
		{ "seconds", required_argument, NULL, SECONDS },
		{ "crt", required_argument, NULL, CRT },
		{ "key", required_argument, NULL, KEY },
		{ "priorities", required_argument, NULL, PRIORITIES },
		{ "cpu", required_argument, NULL, CPU },
		{ "help", no_argument, NULL, HELP },
		{ 0 },
	};
	int chosen;
	while ((chosen = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (chosen) {
		case LIKE: options->like = optarg; break;
		case DIR: options->dir = optarg; break;
		case GROUP: options->group = (long)number("group", optarg, 1, 100000); break;
		case THREADS: options->threads = (long)number("threads", optarg, 1, 64); break;
		case ITERATIONS: options->iterations = (long)number("iterations", optarg, 1, 1e7); break;
		case SECONDS: options->seconds = number("seconds", optarg, 0.1, 3600); break;
		case CRT: options->crt = optarg; break;
		case KEY: options->key = optarg; break;
		case PRIORITIES: options->priorities = optarg; break;
		case CPU: pin(optarg); break;
		case HELP: fputs(usage, stdout); exit(0);
		default: bare_die("see --help");
		}
	}
	if (optind + 1 != argc) {
		bare_die("one mode is needed; see --help");
	}
	options->mode = argv[optind];
}

int main(int argc, char **argv)
{
	struct bare_options options = {
		.dir = ".", .group = 100, .threads = 1, .iterations = 4096, .seconds = 5, .priorities = "NORMAL"
	};
	struct rlimit limit;
	parse(&options, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (strcmp(options.mode, "sqlite") == 0) {
		bare_sqlite(&options);
	} else if (strcmp(options.mode, "pbkdf2") == 0) {
		bare_pbkdf2(&options);
	} else if (strcmp(options.mode, "echo") == 0 || strcmp(options.mode, "fan") == 0) {
		bare_serve(&options, strcmp(options.mode, "fan") == 0);
	} else {
		bare_die("'%s' is no mode; see --help", options.mode);
	}
	return 0;
}
