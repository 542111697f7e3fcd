/* SPDX-License-Identifier: MIT */
/* startalkd: the command line. */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/crash.h"
#include "core/describe.h"
#include "core/log.h"
#include "core/notify.h"
#include "core/server.h"

static const char usage[] =
	"Usage: startalkd [-c FILE] [--log NAME=LEVEL]... [--check | --plan | --check-state DIR]\n"
	"       startalkd [-c FILE] --list-modules | --describe-module NAME | --help-module NAME\n"
	"       startalkd --dump-options NAME | --version | --help\n"
	"\n"
	"  -c, --config FILE   the configuration (default: " STK_SYSCONF_DIR "/startalkd/startalkd.conf)\n"
	"      --log NAME=LEVEL  what one module logs: err, warning, notice, info or debug, whatever the configuration says\n"
	"      --check         only check the configuration, the modules' options included\n"
	"      --check-state DIR  only check whether the modules can use DIR, a copy of a state directory; brings its tables up to date\n"
	"      --plan          print modules, handlers and hooks as they take effect, and exit\n"
	"      --help-module NAME  the options of a module, or of a core section (server, listen, tls, log, login, limits)\n"
	"      --list-modules  the modules that could be loaded, and their files, parted by tabs\n"
	"      --describe-module NAME  what a module says of itself, for programs, parted by tabs\n"
	"      --dump-options NAME  the same for programs, parted by tabs; NAME core: all core sections\n"
	"      --version       print the version\n"
	"\n"
	"SIGTERM stops the server, SIGHUP makes it read its configuration, certificate and key anew,\n"
	"SIGUSR1 open files that only grow anew (module audit).\n";

enum action { ACTION_RUN, ACTION_CHECK, ACTION_PLAN, ACTION_HELP_MODULE, ACTION_DUMP_OPTIONS, ACTION_LIST, ACTION_DESCRIBE, ACTION_CHECK_STATE };

static void report(const char *fault, void *arg)
{
	(void)arg;
	fprintf(stderr, "startalkd: %s\n", fault);
}

static int check(const char *config, const char *const *log)
{
	struct server server = { 0 };
	server.conf = conf_new();
	int rc = server.conf ? settings_load(config, server.conf, &server.settings, report, NULL) : -ENOMEM;
	rc = rc < 0 ? rc : settings_check_logs(server.conf, log, report, NULL);
	if (rc == 0 && handover_listening()) {
		rc = listen_check(server.settings->listen, handover_listening(), report, NULL);
	}
	if (rc == 0) {
		rc = module_load_all(&server, true, report, NULL);
	}
	settings_free(&server.settings);
	conf_free(&server.conf);
	if (rc == 0) {
		printf("%s: ok\n", config);
	}
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int help_module(const struct settings *settings, const char *name, bool dump)
{
	char err[1024], *path = NULL;
	if (dump && name && strcmp(name, "core") == 0) {
		settings_dump_options(stdout);
		return EXIT_SUCCESS;
	}
	struct option_table table = settings_table(name);
	if (settings_is_core(name) && !dump) {
		option_help(&table, stdout);
		return EXIT_SUCCESS;
	}
	const struct stk_module_def *def = module_open(settings, name, &path, err, sizeof(err));
	if (!def) {
		fprintf(stderr, "startalkd: %s\n", err);
		return EXIT_FAILURE;
	}
	table = module_options(def);
	if (dump) {
		option_dump(&table, def->name, "", stdout);
	} else {
		printf("module %s %s\n%s\n", def->name, def->version ? def->version : "", path);
		option_help(&table, stdout);
	}
	free(path);
	return EXIT_SUCCESS;
}

static int describe_module(const struct settings *settings, const char *name)
{
	char err[1024];
	if (describe_file(settings, name, stdout, err, sizeof(err)) < 0) {
		fprintf(stderr, "startalkd: %s\n", err);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

static void overlook(const char *fault, void *arg)
{
	(void)fault;
	(void)arg;
}

/* CONFIG may be NULL. Only where modules are is taken from it, so it need not be right. */
static int about_modules(const char *config, enum action action, const char *name)
{
	struct settings settings = { 0 };
	struct conf *conf = conf_new();
	if (!conf) {
		return EXIT_FAILURE;
	}
	struct option_table table = settings_table("server");
	if (config) {
		(void)conf_read_file(conf, config, overlook, NULL);
	}
	(void)conf_apply(conf_find(conf, "server", NULL), &table, &settings.server, overlook, NULL);
	int status = EXIT_SUCCESS;
	switch (action) {
	case ACTION_LIST: describe_list(&settings, stdout); break;
	case ACTION_DESCRIBE: status = describe_module(&settings, name); break;
	default: status = help_module(&settings, name, action == ACTION_DUMP_OPTIONS); break;
	}
	option_free(&table, &settings.server);
	conf_free(&conf);
	return status;
}

/* STATE_DIR: see --check-state, else NULL. */
static int run(const char *config, const char *const *log, enum action action, const char *state_dir)
{
	struct server server;
	bool dry = action == ACTION_PLAN || action == ACTION_CHECK_STATE;
	int rc = server_open(&server, config, log, dry, state_dir, report, NULL);
	if (rc == 0 && action == ACTION_PLAN) {
		server_print_plan(&server, stdout);
	} else if (rc == 0 && !dry) {
		rc = server_run(&server);
	}
	server_close(&server);
	if (rc == 0 && server.restart) {
		notify_restore();
		rc = handover_exec(server.sockets, server.socket_count);
		fprintf(stderr, "startalkd: stopped, but cannot be executed anew: %s\n", strerror(-rc));
	}
	if (server.left) {
		_exit(rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
	}
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' }, { "log", required_argument, NULL, 'L' }, { "check", no_argument, NULL, 'C' }, { "plan", no_argument, NULL, 'P' },
		{ "check-state", required_argument, NULL, 'S' },
		{ "help-module", required_argument, NULL, 'M' }, { "dump-options", required_argument, NULL, 'D' },
		{ "list-modules", no_argument, NULL, 'l' }, { "describe-module", required_argument, NULL, 'I' },
		{ "version", no_argument, NULL, 'V' }, { "help", no_argument, NULL, 'h' }, { 0 },
	};
	const char *config = NULL, *module = NULL, *state_dir = NULL;
	static const char **log; /* for as long as the process runs */
	enum action action = ACTION_RUN;
	int opt, logs = 0;
	log = calloc((size_t)argc, sizeof(*log));
	if (!log) {
		return EXIT_FAILURE;
	}
	prctl(PR_SET_DUMPABLE, 0); /* no passwords in core dumps */
	umask(077);
	signal(SIGUSR1, SIG_IGN); /* until it is watched */
	crash_install();
	handover_init();
	notify_init();
	while ((opt = getopt_long(argc, argv, "c:hV", options, NULL)) != -1) {
		switch (opt) {
		case 'c': config = optarg; break;
		case 'L': log[logs++] = optarg; break;
		case 'C': action = ACTION_CHECK; break;
		case 'P': action = ACTION_PLAN; break;
		case 'S': action = ACTION_CHECK_STATE; state_dir = optarg; break;
		case 'M': action = ACTION_HELP_MODULE; module = optarg; break;
		case 'D': action = ACTION_DUMP_OPTIONS; module = optarg; break;
		case 'l': action = ACTION_LIST; break;
		case 'I': action = ACTION_DESCRIBE; module = optarg; break;
		case 'V': puts("startalkd " STK_VERSION); return EXIT_SUCCESS;
		case 'h': fputs(usage, stdout); return EXIT_SUCCESS;
		default: fputs(usage, stderr); return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "startalkd: unexpected argument '%s'\n%s", argv[optind], usage);
		return 2;
	}
	const char *used = config ? config : STK_SYSCONF_DIR "/startalkd/startalkd.conf";
	switch (action) {
	case ACTION_CHECK: return check(used, log);
	case ACTION_HELP_MODULE:
	case ACTION_DUMP_OPTIONS:
	case ACTION_LIST:
	case ACTION_DESCRIBE: return about_modules(config, action, module);
	default: return run(used, log, action, state_dir);
	}
}
