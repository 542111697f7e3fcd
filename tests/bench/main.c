/* SPDX-License-Identifier: MIT */
/* startalk-bench: puts load on a server on this machine and measures what becomes of it. This file checks what it was
 * asked for and sets the process up; the modes are in modes.c. */

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define TEXT_MAX 100   /* bytes of a domain, prefix or password */
#define KEY_MAX 16384  /* bytes of a key file */
#define ALARM_SPARE 10 /* seconds behind --limit, should the loop itself hang */

void die(const char *fmt, ...)
{
	va_list args;
	fputs("startalk-bench: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(EXIT_CANNOT);
}

void bench_fault(struct bench *bench, const char *fmt, ...)
{
	va_list args;
	if (bench->fault_count < BENCH_FAULTS) {
		va_start(args, fmt);
		vsnprintf(bench->faults[bench->fault_count], sizeof(bench->faults[0]), fmt, args);
		va_end(args);
	}
	bench->fault_count++;
}

static void pin(const char *cpu)
{
	char *end;
	cpu_set_t set;
	unsigned long number = strtoul(cpu, &end, 10);
	CPU_ZERO(&set);
	if (*cpu && !*end && number < CPU_SETSIZE) {
		CPU_SET(number, &set);
	}
	if (sched_setaffinity(0, sizeof(set), &set) < 0) {
		die("--cpu: '%s' is no processor that this process may use", cpu);
	}
}

static void load_rsa_key(struct bench *bench)
{
	unsigned char text[KEY_MAX];
	FILE *file = fopen(bench->options.rsa_key, "re");
	if (!file) {
		die("--rsa-key: %s: %s", bench->options.rsa_key, strerror(errno));
	}
	gnutls_datum_t pem = { .data = text, .size = (unsigned)fread(text, 1, sizeof(text), file) };
	fclose(file);
	if (gnutls_pubkey_init(&bench->rsa) < 0 || gnutls_pubkey_import(bench->rsa, &pem, GNUTLS_X509_FMT_PEM) < 0) {
		die("--rsa-key: %s holds no public key in PEM", bench->options.rsa_key);
	}
}

static void check_options(struct bench *bench)
{
	const struct options *options = &bench->options;
	bench->target = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)options->port) };
	if (inet_pton(AF_INET, options->address, &bench->target.sin_addr) != 1 ||
	    ntohl(bench->target.sin_addr.s_addr) >> 24 != 127) {
		die("--address: '%s' is no address in 127.0.0.0/8; load is put on this machine only", options->address);
	}
	if (strlen(options->domain) > TEXT_MAX || strlen(options->prefix) > 32 ||
	    strlen(options->password) > TEXT_MAX || strpbrk(options->password, "\"\\")) {
		die("--domain, --prefix or --password: too long, or with a quote or backslash");
	}
	if (options->warmup + options->seconds > options->limit) {
		die("--limit: %g s are less than --warmup and --seconds", options->limit);
	}
	if (options->bare &&
	    (options->tls == TLS_START || (strcmp(options->mode, "login") != 0 && strcmp(options->mode, "chat") != 0 &&
					   strcmp(options->mode, "fanout") != 0))) {
		die("--bare: for the modes login, chat and fanout, with --tls off or direct");
	}
	if (options->server_pid && cpu_seconds((pid_t)atoi(options->server_pid)) < 0) {
		die("--server-pid: there is no process %s", options->server_pid);
	}
}

static void on_alarm(int number)
{
	static const char text[] = "startalk-bench: hangs; ended behind --limit\n";
	(void)number;
	ssize_t written = write(STDERR_FILENO, text, sizeof(text) - 1);
	(void)written;
	_exit(EXIT_FAULT);
}

static void raise_file_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int main(int argc, char **argv)
{
	static struct bench bench;
	options_parse(&bench.options, argc, argv);
	const struct mode *mode = mode_find(bench.options.mode);
	if (!mode) {
		die("'%s' is no mode; see --help", bench.options.mode);
	}
	check_options(&bench);
	if (bench.options.cpu) {
		pin(bench.options.cpu);
	}
	raise_file_limit();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, on_alarm);
	alarm((unsigned)bench.options.limit + ALARM_SPARE);
	if (bench.options.rsa_key) {
		load_rsa_key(&bench);
	}
	bench.measure_from = INT64_MAX; /* a mode says when */
	bench.run = (unsigned)(clock_us() ^ getpid()) & 0xffff;
	engine_open(&bench);
	mode->run(&bench);
	traffic_fini(&bench);
	engine_close(&bench);
	return bench.fault_count ? EXIT_FAULT : 0;
}
