/* SPDX-License-Identifier: MIT */
/* startalk-module-test: plays scripts against a module in a throw-away server. Owns the command line, the order of
 * scripts and steps, and what is printed, in words or as TAP. */

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gnutls/gnutls.h>

#include "proto/frame.h"
#include "tools/play.h"

#define TIMEOUT INT64_C(5000000)

static const char usage[] = "usage: startalk-module-test [OPTION...] MODULE.so... SCRIPT...\n";

static const char help[] =
	"Starts a server with the module in a folder of its own, plays the scripts against it, and stops it.\n"
	"\n"
	"  --startalkd FILE   the server (beside this program, or where it is installed)\n"
	"  --module-dir DIR   where the server's own modules are (as above)\n"
	"  --wrap COMMAND     what the server is run under: 'valgrind -q --error-exitcode=9'\n"
	"  --timeout TIME     how long a step waits for what it expects, unless it says so itself (5s)\n"
	"  --keep             keep the folder with configuration, log and databases, and say where it is\n"
	"  --tap              print the Test Anything Protocol, for prove, automake and meson\n"
	"  --verbose          print every stanza\n"
	"  --help, --version\n"
	"\n"
	"SCRIPT '-' is standard input. See startalk-module-test(1) for what a script may say.\n"
	"Exit status: 0; 1 if a script failed; 2 for wrong usage and for scripts that cannot be understood.\n";

enum {
	OPTION_STARTALKD = 256,
	OPTION_DIR,
	OPTION_WRAP,
	OPTION_TIMEOUT,
	OPTION_KEEP,
	OPTION_TAP,
	OPTION_VERBOSE,
	OPTION_HELP,
	OPTION_VERSION
};

/* ---- memory and lines ---- */

void *play_must(void *memory)
{
	if (!memory) {
		fputs("startalk-module-test: out of memory\n", stderr);
		exit(EXIT_FAILURE); /* the server goes with this process */
	}
	return memory;
}

char *play_format(const char *fmt, ...)
{
	char *text = NULL;
	va_list args;
	va_start(args, fmt);
	int rc = vasprintf(&text, fmt, args);
	va_end(args);
	return play_must(rc < 0 ? NULL : text);
}

void play_note(const struct play *play, const char *fmt, ...)
{
	va_list args;
	if (!play->options->verbose) {
		return;
	}
	fputs(play->options->tap ? "#   " : "  ", stdout);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

int play_fail(struct play *play, const char *fmt, ...)
{
	char *text = NULL;
	va_list args;
	va_start(args, fmt);
	int rc = vasprintf(&text, fmt, args);
	va_end(args);
	play_must(rc < 0 ? NULL : text);
	if (buf_append(&play->report, text, strlen(text)) < 0 || buf_append(&play->report, "\n", 1) < 0) {
		play_must(NULL);
	}
	free(text);
	return -1;
}

/* ---- one script ---- */

/* Lines of the report: comments for TAP, else on standard error. */
static void print_report(struct play *play)
{
	play_fail(play, "%s", "");
	char *text = (char *)buf_data(&play->report), *rest = text;
	text[play->report.len - 1] = '\0';
	for (char *line; (line = strsep(&rest, "\n"));) {
		if (*line) {
			fprintf(play->options->tap ? stdout : stderr, "%s%s\n", play->options->tap ? "# " : "", line);
		}
	}
	play->report.len = 0;
}

/* One test of TAP; TEXT must not have what TAP takes for a directive. */
static void print_test(const struct play *play, unsigned *number, bool ok, const struct play_step *step,
		       const char *skip)
{
	if (!play->options->tap) {
		return;
	}
	char *said = play_must(strdup(step ? step->said : "the server ends as it should"));
	for (char *at = said; (at = strchr(at, '#'));) {
		*at = ' ';
	}
	printf("%s %u - %s", ok ? "ok" : "not ok", ++*number, play->script->file);
	if (step) {
		printf(":%u", step->line);
	}
	printf(": %s%s\n", said, skip);
	free(said);
}

/* Does the steps up to the first that fails. NULL, or that one. */
static const struct play_step *do_steps(struct play *play, unsigned *number)
{
	const struct play_step *step = play->script->steps;
	for (; step; step = step->next) {
		play_note(play, "%s:%u: %s", play->script->file, step->line, step->said);
		if (play_step(play, step) < 0) {
			break;
		}
		print_test(play, number, true, step, "");
	}
	const struct play_step *failed = step;
	if (failed) {
		char *head = play_format("%s:%u: failed: %s\n", play->script->file, failed->line, failed->said);
		struct buf report = play->report;
		play->report = (struct buf){ 0 };
		if (buf_append(&play->report, head, strlen(head)) < 0 ||
		    buf_append(&play->report, buf_data(&report), report.len) < 0) {
			play_must(NULL);
		}
		buf_fini(&report);
		free(head);
		print_test(play, number, false, failed, "");
	}
	for (step = failed ? failed->next : NULL; step; step = step->next) {
		print_test(play, number, true, step, " # SKIP a step before it failed");
	}
	return failed;
}

static int play_script(const struct play_options *options, const struct play_script *script, unsigned *number)
{
	const char *file = strrchr(options->modules[0], '/') + 1;
	char *name = play_must(strndup(file, strlen(file) - 3));
	struct play play = { .options = options, .script = script, .name = name, .timeout = options->timeout };
	play.login.tls_insecure = true;
	int64_t started = clock_us();
	int rc = play_server_init(&play);
	bool failed = rc < 0 || do_steps(&play, number);
	while (play.sessions) {
		play_disconnect(&play, play.sessions);
	}
	size_t before = play.report.len;
	bool ended_well = rc < 0 || play_server_stop(&play) == 0;
	if (!ended_well) {
		char *head = play_format("%s: failed: the server's end", script->file);
		if (!failed) {
			struct buf report = play.report;
			play.report = (struct buf){ 0 };
			play_fail(&play, "%s\n%.*s", head, (int)report.len, (const char *)buf_data(&report));
			buf_fini(&report);
		}
		free(head);
	} else if (!failed) {
		play.report.len = before;
	}
	if (rc == 0) {
		print_test(&play, number, ended_well, NULL, "");
	}
	failed = failed || !ended_well;
	if (failed) {
		if (rc == 0) {
			play_server_tail(&play);
		}
		print_report(&play);
	} else if (!options->tap) {
		printf("%s: ok (%zu steps, %.1f s)\n", script->file, script->steps_n,
		       (double)(clock_us() - started) / 1e6);
	}
	if (options->keep && play.server.dir) {
		printf("%s%s: kept in %s\n", options->tap ? "# " : "", script->file, play.server.dir);
	}
	fflush(stdout);
	play_server_fini(&play);
	buf_fini(&play.report);
	free(name);
	return failed ? -1 : 0;
}

/* ---- the command line ---- */

static int refuse(const char *what, const char *which)
{
	fprintf(stderr, "startalk-module-test: %s%s%s\n%s", what, which ? ": " : "", which ? which : "", usage);
	return 2;
}

/* This program's folder, to be freed. When it ends as the folder does where programs are installed, what is before that
 * is the ROOT of an installed tree, which may have been moved. */
static char *own_folder(char **root)
{
	char exe[4096];
	ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	*root = NULL;
	exe[len > 0 ? len : 0] = '\0';
	char *slash = strrchr(exe, '/');
	if (!slash) {
		return play_must(strdup(""));
	}
	*slash = '\0';
	size_t n = strlen(exe), end = strlen(STK_BINDIR);
	if (n >= end && strcmp(exe + n - end, STK_BINDIR) == 0) {
		*root = play_must(strndup(exe, n - end));
	}
	return play_must(strdup(exe));
}

static void find_server(struct play_options *options)
{
	char *root, *folder = own_folder(&root);
	char *beside = play_format("%s/startalkd", folder);
	if (!options->startalkd && access(beside, X_OK) == 0) {
		options->startalkd = play_must(strdup(beside));
		options->module_dir = options->module_dir ? options->module_dir : play_format("%s/modules", folder);
	}
	if (!options->startalkd) {
		options->startalkd = play_format("%s%s/startalkd", root ? root : "", STK_SBINDIR);
	}
	if (!options->module_dir) {
		/* A server of a build tree has its modules beside it. */
		const char *slash = strrchr(options->startalkd, '/');
		options->module_dir = play_format("%.*s/modules", slash ? (int)(slash - options->startalkd) : 1,
						  slash ? options->startalkd : ".");
		if (access(options->module_dir, X_OK) != 0) {
			free(options->module_dir);
			options->module_dir = play_format("%s%s", root ? root : "", STK_MODULE_DIR);
		}
	}
	free(beside);
	free(folder);
	free(root);
}

static int set_option(struct play_options *options, int option)
{
	switch (option) {
	case OPTION_STARTALKD:
		free(options->startalkd);
		options->startalkd = realpath(optarg, NULL);
		return options->startalkd ? 0 : refuse(optarg, strerror(errno));
	case OPTION_DIR:
		free(options->module_dir);
		options->module_dir = realpath(optarg, NULL);
		return options->module_dir ? 0 : refuse(optarg, strerror(errno));
	case OPTION_WRAP: options->wrap = optarg; return 0;
	case OPTION_TIMEOUT:
		return client_duration(optarg, &options->timeout) < 0
			       ? refuse("--timeout is a time, such as 5s, not", optarg)
			       : 0;
	case OPTION_KEEP: options->keep = true; return 0;
	case OPTION_TAP: options->tap = true; return 0;
	case OPTION_VERBOSE: options->verbose = true; return 0;
	default: fputs(usage, stderr); return 2; /* getopt has named it */
	}
}

static bool is_module(const char *argument)
{
	size_t len = strlen(argument);
	return len > 3 && strcmp(argument + len - 3, ".so") == 0;
}

/* The arguments: modules, then scripts, which are read. */
static int read_arguments(struct play_options *options, char **argv, int argc, struct play_script *scripts,
			  size_t *scripts_n)
{
	int rc = 0;
	for (int i = 0; i < argc; i++) {
		if (!is_module(argv[i])) {
			rc = play_read(argv[i], &scripts[(*scripts_n)++]) < 0 ? 2 : rc;
			continue;
		}
		char *path = realpath(argv[i], NULL);
		if (!path) {
			return refuse(argv[i], strerror(errno));
		}
		if (!is_module(path) || options->modules_n == PLAY_MODULES_MAX) {
			free(path);
			return refuse("too many modules, or a link to what is none", argv[i]);
		}
		options->modules[options->modules_n++] = path;
	}
	if (rc == 0 && (!options->modules_n || !*scripts_n)) {
		return refuse(options->modules_n ? "no script is given" : "no module is given", NULL);
	}
	return rc;
}

static int run(const struct play_options *options, const struct play_script *scripts, size_t scripts_n)
{
	size_t tests = 0, failed = 0;
	unsigned number = 0;
	for (size_t i = 0; i < scripts_n; i++) {
		tests += scripts[i].steps_n + 1;
	}
	if (options->tap) {
		printf("TAP version 13\n1..%zu\n", tests);
	}
	for (size_t i = 0; i < scripts_n; i++) {
		failed += play_script(options, &scripts[i], &number) < 0;
	}
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "startalkd", required_argument, NULL, OPTION_STARTALKD },
		{ "module-dir", required_argument, NULL, OPTION_DIR },
		{ "wrap", required_argument, NULL, OPTION_WRAP },
		{ "timeout", required_argument, NULL, OPTION_TIMEOUT },
		{ "keep", no_argument, NULL, OPTION_KEEP },
		{ "tap", no_argument, NULL, OPTION_TAP },
		{ "verbose", no_argument, NULL, OPTION_VERBOSE },
		{ "help", no_argument, NULL, OPTION_HELP },
		{ "version", no_argument, NULL, OPTION_VERSION },
		{ 0 },
	};
	struct play_options options = { .timeout = TIMEOUT };
	int option, rc = 0;
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (option == OPTION_HELP) {
			printf("%s%s", usage, help);
			return 0;
		}
		if (option == OPTION_VERSION) {
			puts("startalk-module-test " STK_VERSION);
			return 0;
		}
		rc = set_option(&options, option);
		if (rc != 0) {
			return rc;
		}
	}
	struct play_script *scripts = play_must(calloc((size_t)argc + 1, sizeof(*scripts)));
	size_t scripts_n = 0;
	rc = read_arguments(&options, argv + optind, argc - optind, scripts, &scripts_n);
	if (rc == 0) {
		find_server(&options);
		rc = stop_init() < 0 ? EXIT_FAILURE : run(&options, scripts, scripts_n);
	}
	for (size_t i = 0; i < scripts_n; i++) {
		play_script_free(&scripts[i]);
	}
	for (size_t i = 0; i < options.modules_n; i++) {
		free((char *)(uintptr_t)options.modules[i]);
	}
	free(scripts);
	free(options.startalkd);
	free(options.module_dir);
	frame_thread_fini();
	return rc;
}
