/* SPDX-License-Identifier: MIT */
/* startalk-frame: frames as hex to stanzas as XML and back, one a line. For looking at captures and for tests. Owns its
 * command line and its lines; the work is done by the codec. */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/buf.h"
#include "core/xml.h"
#include "proto/codec.h"
#include "proto/frame.h"
#include "tools/xml_parse.h"

#define INFLATE_MAX (16u * 1024 * 1024)

enum { OPTION_SESSION = 256, OPTION_SIDE, OPTION_NOW, OPTION_HELP, OPTION_VERSION };

struct job {
	struct codec_context context;
	bool encode;
	bool has_side, has_now;
};

static const char usage[] = "usage: startalk-frame decode|encode [--session JID] [--side client|server] [--now MS]\n";

static const char help[] = "Reads lines from standard input and writes one line for each to standard output.\n"
			   "\n"
			   "  decode        frames as hex, length prefix included, to stanzas as XML;\n"
			   "                an empty line where the frame stands for none\n"
			   "  encode        stanzas as XML to frames as hex;\n"
			   "                an empty line where the stanza is not sent on this transport\n"
			   "\n"
			   "  --session JID the full JID whose connection it is, for defaults of from and to\n"
			   "  --side WHO    who speaks, client or server (decode: client, encode: server)\n"
			   "  --now MS      the clock, in milliseconds since 1970 (now)\n"
			   "  --help, --version\n"
			   "\n"
			   "A line that fails gives an empty line, and its number and the reason on standard error.\n"
			   "Exit status: 0; 1 if any line failed; 2 for wrong usage.\n";

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static const char *error_text(int rc)
{
	switch (rc) {
	case -EILSEQ: return "text is not UTF-8";
	case -EMSGSIZE: return "too long";
	case -EINVAL: return "a stanza that this side never sends";
	default: return strerror(-rc);
	}
}

/* The bytes of LINE in place; -1: not hex. */
static ssize_t read_hex(char *line, size_t n)
{
	if (n % 2) {
		return -1;
	}
	for (size_t i = 0; i < n; i += 2) {
		int high = hex_digit(line[i]), low = hex_digit(line[i + 1]);
		if (high < 0 || low < 0) {
			return -1;
		}
		line[i / 2] = (char)(high << 4 | low);
	}
	return (ssize_t)(n / 2);
}

static const char *decode_line(const struct job *job, char *line, size_t n, struct buf *out)
{
	ssize_t size = read_hex(line, n);
	if (size < 0) {
		return "not hex";
	}
	const uint8_t *frame = (const uint8_t *)line;
	size_t len;
	int prefix = frame_prefix(frame, (size_t)size, &len);
	if (prefix < 0) {
		return "length of more than 4 bytes";
	}
	if (!prefix || (size_t)size - (size_t)prefix < len) {
		return "frame cut short";
	}
	if ((size_t)size - (size_t)prefix > len) {
		return "bytes behind the frame";
	}
	struct stk_stanza *stanza;
	const char *why;
	int rc = codec_decode(&job->context, frame + prefix, len, &stanza, NULL, &why);
	if (rc < 0) {
		return why ? why : error_text(rc);
	}
	rc = stanza ? xml_print(stanza, out) : 0;
	stk_stanza_unref(stanza);
	return rc < 0 ? error_text(rc) : NULL;
}

static const char *encode_line(const struct job *job, const char *line, size_t n, struct buf *out)
{
	struct stk_stanza *stanza;
	struct buf frame = { 0 };
	const char *why;
	if (xml_parse(line, n, &stanza, &why) < 0) {
		return why;
	}
	int rc = codec_encode(&job->context, stanza, &frame);
	for (size_t i = 0; rc == 0 && i < frame.len; i++) {
		char hex[3];
		snprintf(hex, sizeof(hex), "%02x", buf_data(&frame)[i]);
		rc = buf_append(out, hex, 2);
	}
	buf_fini(&frame);
	stk_stanza_unref(stanza);
	return rc < 0 ? error_text(rc) : NULL;
}

static int run(struct job *job)
{
	char *line = NULL;
	size_t cap = 0, number = 0;
	ssize_t n;
	int status = 0;
	struct buf out = { 0 };
	while ((n = getline(&line, &cap, stdin)) >= 0) {
		while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) {
			line[--n] = '\0';
		}
		number++;
		if (!job->has_now) {
			struct timespec now;
			clock_gettime(CLOCK_REALTIME, &now);
			job->context.now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
		}
		const char *why = NULL;
		out.len = 0;
		if (n > 0) {
			why = job->encode ? encode_line(job, line, (size_t)n, &out)
					  : decode_line(job, line, (size_t)n, &out);
		}
		if (why) {
			fprintf(stderr, "startalk-frame: line %zu: %s\n", number, why);
			status = 1;
			out.len = 0;
		}
		fwrite(out.len ? (const char *)buf_data(&out) : "", 1, out.len, stdout);
		putchar('\n');
	}
	if (ferror(stdin) || fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "startalk-frame: %s\n", strerror(errno));
		status = 1;
	}
	buf_fini(&out);
	free(line);
	frame_thread_fini();
	return status;
}

static int refuse(const char *what, const char *which)
{
	fprintf(stderr, "startalk-frame: %s%s%s\n%s", what, which ? ": " : "", which ? which : "", usage);
	return 2;
}

static int set_option(struct job *job, int option)
{
	char *end;
	switch (option) {
	case OPTION_SESSION: job->context.self = optarg; return 0;
	case OPTION_SIDE:
		job->has_side = true;
		job->context.side = strcmp(optarg, "server") == 0 ? CODEC_SERVER : CODEC_CLIENT;
		if (job->context.side == CODEC_CLIENT && strcmp(optarg, "client") != 0) {
			return refuse("--side is client or server, not", optarg);
		}
		return 0;
	case OPTION_NOW:
		job->has_now = true;
		errno = 0;
		job->context.now_ms = strtoll(optarg, &end, 10);
		return errno || end == optarg || *end ? refuse("--now is a number of milliseconds, not", optarg) : 0;
	default: fputs(usage, stderr); return 2; /* getopt has named it */
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "session", required_argument, NULL, OPTION_SESSION },
		{ "side", required_argument, NULL, OPTION_SIDE },
		{ "now", required_argument, NULL, OPTION_NOW },
		{ "help", no_argument, NULL, OPTION_HELP },
		{ "version", no_argument, NULL, OPTION_VERSION },
		{ 0 },
	};
	struct job job = { .context = { .inflate_max = INFLATE_MAX } };
	int option;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == OPTION_HELP) {
			printf("%s%s", usage, help);
			return 0;
		}
		if (option == OPTION_VERSION) {
			puts("startalk-frame " STK_VERSION);
			return 0;
		}
		if (set_option(&job, option) != 0) {
			return 2;
		}
	}
	if (optind == argc) {
		return refuse("say decode or encode", NULL);
	}
	job.encode = strcmp(argv[optind], "encode") == 0;
	if (!job.encode && strcmp(argv[optind], "decode") != 0) {
		return refuse("neither decode nor encode", argv[optind]);
	}
	if (optind + 1 < argc) {
		return refuse("more than one command", argv[optind + 1]);
	}
	if (!job.has_side) {
		job.context.side = job.encode ? CODEC_SERVER : CODEC_CLIENT;
	}
	return run(&job);
}
