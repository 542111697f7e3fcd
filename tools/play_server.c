/* SPDX-License-Identifier: MIT */
/* The throw-away server of a play: its folder, configuration, process, accounts and log. Owns all of these and the
 * judgement of how the server ended. What is said to it as a client is not its business. */

#include "tools/play.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#define SECOND INT64_C(1000000)
#define TURN (SECOND / 100)      /* between two looks at the log */
#define START_TIME (60 * SECOND) /* keys are made, and there may be a slow command in front */
#define STOP_TIME (30 * SECOND)
#define TAIL 20     /* lines of the log in a report */
#define LEVEL_AT 25 /* where a line's level stands, behind the time */

/* ---- lists ---- */

static struct play_pair **find(struct play_pair **at, const char *section, const char *key)
{
	while (*at && (strcmp((*at)->section, section) != 0 || strcmp((*at)->key, key) != 0)) {
		at = &(*at)->next;
	}
	return at;
}

void play_pair_set(struct play_pair **list, const char *section, const char *key, const char *value)
{
	struct play_pair **at = find(list, section, key);
	if (!*at) {
		*at = play_must(calloc(1, sizeof(**at)));
		(*at)->section = play_must(strdup(section));
		(*at)->key = play_must(strdup(key));
	}
	char *copy = play_must(strdup(value));
	free((*at)->value);
	(*at)->value = copy;
}

const char *play_pair_get(const struct play_pair *list, const char *section, const char *key)
{
	struct play_pair *first = (struct play_pair *)(uintptr_t)list, **at = find(&first, section, key);
	return *at ? (*at)->value : NULL;
}

/* All of a section. */
void play_pair_remove(struct play_pair **list, const char *section)
{
	while (*list) {
		struct play_pair *pair = *list;
		if (section && strcmp(pair->section, section) != 0) {
			list = &pair->next;
			continue;
		}
		*list = pair->next;
		free(pair->section);
		free(pair->key);
		free(pair->value);
		free(pair);
	}
}

/* ---- folder ---- */

static int link_module(struct play *play, const char *target, const char *name)
{
	char *path = play_format("%s/modules/%s", play->server.dir, name);
	unlink(path);
	int rc = symlink(target, path) < 0 ? play_fail(play, "%s: %s", path, strerror(errno)) : 0;
	free(path);
	return rc;
}

/* The modules of the server lie in one folder, those of a build tree each in its own. */
static int link_modules(struct play *play)
{
	const struct play_options *options = play->options;
	DIR *dir = opendir(options->module_dir);
	int rc = dir ? 0
		     : play_fail(play, "%s: %s; --module-dir says where the server's modules are", options->module_dir,
				 strerror(errno));
	for (struct dirent *entry; rc == 0 && (entry = readdir(dir));) {
		size_t len = strlen(entry->d_name);
		bool is_module = len > 3 && strcmp(entry->d_name + len - 3, ".so") == 0;
		char *name = play_format(is_module ? "%s" : "%s.so", entry->d_name);
		char *target = play_format(is_module ? "%s/%s" : "%s/%s/%s.so", options->module_dir, entry->d_name,
					   entry->d_name);
		if (entry->d_name[0] != '.' && access(target, F_OK) == 0) {
			rc = link_module(play, target, name);
		}
		free(name);
		free(target);
	}
	if (dir) {
		closedir(dir);
	}
	for (size_t i = 0; rc == 0 && i < options->modules_n; i++) {
		rc = link_module(play, options->modules[i], strrchr(options->modules[i], '/') + 1);
	}
	return rc;
}

int play_server_init(struct play *play)
{
	static const char *const modules[] = { "auth_sqlite", "bind", "presence", "message", "ping" };
	static const char *const settings[][3] = {
		{ "server", "domains", "example.org" },
		{ "server", "state-dir", "state" },
		{ "server", "modules-dir", "modules" },
		{ "listen", "address", "127.0.0.1" },
		{ "listen", "port", "0" },
		{ "log", "level", "debug" },
		{ "login", "failure-delay", "20ms" },
		{ "login", "failure-delay-max", "20ms" },
		{ "auth_sqlite", "plain-without-tls", "on" },
	};
	struct play_server *server = &play->server;
	const char *tmp = getenv("TMPDIR");
	char *dir = play_format("%s/module-test.XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(dir)) {
		play_fail(play, "%s: %s", dir, strerror(errno));
		free(dir);
		return -1;
	}
	server->dir = dir;
	setenv("DIR", dir, 1);
	server->log = play_format("%s/log", dir);
	char *folder = play_format("%s/modules", dir);
	int rc = mkdir(folder, 0700) < 0 ? play_fail(play, "%s: %s", folder, strerror(errno)) : 0;
	free(folder);
	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
		play_pair_set(&server->options, settings[i][0], settings[i][1], settings[i][2]);
	}
	play_pair_set(&server->options, "listen", "tls", play->script->tls ? "optional" : "off");
	for (size_t i = 0; i < sizeof(modules) / sizeof(*modules); i++) {
		play_pair_set(&server->modules, modules[i], "", "");
	}
	for (size_t i = 0; i < play->options->modules_n; i++) {
		const char *file = strrchr(play->options->modules[i], '/') + 1;
		char *name = play_must(strndup(file, strlen(file) - 3));
		play_pair_set(&server->modules, name, "", "");
		free(name);
	}
	return rc < 0 ? rc : link_modules(play);
}

static void write_section(FILE *file, const struct play_server *server, const char *name)
{
	fprintf(file, "[%s]\n", name);
	for (const struct play_pair *option = server->options; option; option = option->next) {
		if (strcmp(option->section, name) == 0) {
			fprintf(file, "%s = %s\n", option->key, option->value);
		}
	}
}

/* An option switches the module of its section on, as it does in any configuration; but not one that `without` took
 * out. */
static int write_configuration(struct play *play)
{
	struct play_server *server = &play->server;
	char *path = play_format("%s/startalkd.conf", server->dir);
	FILE *file = fopen(path, "we");
	if (!file) {
		play_fail(play, "%s: %s", path, strerror(errno));
		free(path);
		return -1;
	}
	for (const struct play_pair *option = server->options; option; option = option->next) {
		struct play_pair *first = server->options, **same = &first;
		while (strcmp((*same)->section, option->section) != 0) {
			same = &(*same)->next;
		}
		if (*same == option && !play_pair_get(server->modules, option->section, "")) {
			write_section(file, server, option->section);
		}
	}
	for (const struct play_pair *module = server->modules; module; module = module->next) {
		write_section(file, server, module->section);
	}
	int rc = fclose(file) != 0 ? play_fail(play, "%s: %s", path, strerror(errno)) : 0;
	free(path);
	return rc;
}

/* ---- log ---- */

/* The log from START on, to be freed. */
static char *read_log(const struct play *play, off_t start)
{
	struct buf text = { 0 };
	int fd = open(play->server.log, O_RDONLY | O_CLOEXEC);
	for (ssize_t n = 1; fd >= 0 && n > 0;) {
		uint8_t *room = play_must(buf_reserve(&text, 65536));
		n = pread(fd, room, 65536, start + (off_t)text.len);
		buf_grew(&text, n > 0 ? (size_t)n : 0);
	}
	if (fd >= 0) {
		close(fd);
	}
	*(char *)play_must(buf_reserve(&text, 1)) = '\0';
	return (char *)text.data; /* nothing was taken from its front */
}

static off_t log_end(const struct play *play)
{
	struct stat st;
	return stat(play->server.log, &st) == 0 ? st.st_size : 0;
}

/* Waits until the log has ONE or OTHER (may be NULL) behind START. 1, 2, or 0: it had neither in time, or the server
 * has ended; -1: interrupted, told. */
static int await_log(struct play *play, off_t start, const char *one, const char *other, int64_t timeout)
{
	int64_t deadline = clock_us() + timeout;
	for (;;) {
		bool died = play_server_died(play), late = clock_us() >= deadline; /* before the look at the log */
		char *text = read_log(play, start);
		int found = strstr(text, one) ? 1 : other && strstr(text, other) ? 2 : 0;
		free(text);
		if (found || died || late) {
			return found;
		}
		if (wait_fds(NULL, 0, clock_us() + TURN) < 0) {
			return play_fail(play, "interrupted");
		}
	}
}

int play_server_log(struct play *play, const char *text, int64_t timeout)
{
	int rc = await_log(play, play->server.log_start, text, NULL, timeout);
	if (rc > 0) {
		play_pair_set(&play->server.allowed, text, "", "");
		return 0;
	}
	return rc < 0 ? rc
		      : play_fail(play, "  the server's log does not have it after %g s: %s", (double)timeout / 1e6,
				  text);
}

int play_server_log_not(struct play *play, const char *text)
{
	char *log = read_log(play, play->server.log_start), *found = strstr(log, text);
	int rc = 0;
	if (found) {
		while (found > log && found[-1] != '\n') {
			found--;
		}
		rc = play_fail(play, "  the server's log has it: %.*s", (int)strcspn(found, "\n"), found);
	}
	free(log);
	return rc;
}

void play_server_tail(struct play *play)
{
	char *log = read_log(play, 0), *from = log + strlen(log);
	for (int lines = 0; from > log; from--) {
		if (from[-1] == '\n' && ++lines > TAIL) {
			break;
		}
	}
	if (*from) {
		play_fail(play, "  the end of the server's log:");
	}
	for (char *line = from; *line; line += *line == '\n') {
		size_t len = strcspn(line, "\n");
		play_fail(play, "    %.*s", (int)len, line);
		line += len;
	}
	free(log);
}

/* ---- judging ---- */

static bool is_allowed(const struct play *play, const char *line)
{
	const struct play_pair *allowed = play->server.allowed;
	while (allowed && !strstr(line, allowed->section)) {
		allowed = allowed->next;
	}
	return allowed != NULL;
}

static bool is_error(const char *line)
{
	return strlen(line) > LEVEL_AT && line[LEVEL_AT - 2] == 'Z' && strncmp(line + LEVEL_AT, "err ", 4) == 0;
}

static bool is_report(const char *line)
{
	static const char *const marks[] = { "ERROR: AddressSanitizer",  "ERROR: LeakSanitizer",
					     "WARNING: ThreadSanitizer", "WARNING: MemorySanitizer",
					     "runtime error:",           "Assertion `" };
	size_t i = 0;
	while (i < sizeof(marks) / sizeof(*marks) && !strstr(line, marks[i])) {
		i++;
	}
	return i < sizeof(marks) / sizeof(*marks);
}

/* A module that keeps the router: not told of a server that is slow because something watches it. */
static bool is_slow(const struct play *play, const char *line)
{
	char *own = play_format("module: %s: ", play->name);
	bool slow = !play->options->wrap && strstr(line, own) && strstr(line, " kept the router for ");
	free(own);
	return slow;
}

/* Looks for what must not be in the log of this run. */
static int judge_log(struct play *play, off_t start, bool errors_allowed)
{
	char *log = read_log(play, start), *rest = log;
	int rc = 0;
	for (char *line; (line = strsep(&rest, "\n"));) {
		bool bad = is_report(line) || is_slow(play, line) || (!errors_allowed && is_error(line));
		if (bad && !is_allowed(play, line)) {
			rc = play_fail(play, "  the server's log has: %s", line);
		}
	}
	free(log);
	if (rc < 0) {
		play_fail(play, "  (a line that is meant to be there is allowed by: server log may have \"...\")");
	}
	return rc;
}

static int judge_status(struct play *play)
{
	int status = play->server.status;
	if (WIFSIGNALED(status)) {
		return play_fail(play, "  the server was ended by signal %d (%s)%s", WTERMSIG(status),
				 strsignal(WTERMSIG(status)),
				 play->options->wrap ? ""
						     : "; --wrap 'valgrind -q' or a module built with "
						       "-fsanitize=address may tell where");
	}
	return WEXITSTATUS(status) ? play_fail(play, "  the server ended with status %d", WEXITSTATUS(status)) : 0;
}

/* ---- process ---- */

static bool reap(struct play *play, bool wait)
{
	struct play_server *server = &play->server;
	if (server->running && waitpid(server->child, &server->status, wait ? 0 : WNOHANG) == server->child) {
		server->running = false;
		free(server->port);
		server->port = NULL;
	}
	return !server->running;
}

bool play_server_died(struct play *play)
{
	return reap(play, false);
}

static void become_server(struct play *play)
{
	char *conf = play_format("%s/startalkd.conf", play->server.dir);
	char *command = play_format("exec %s \"$0\" \"$@\"", play->options->wrap ? play->options->wrap : "");
	int log = open(play->server.log, O_WRONLY | O_CREAT | O_APPEND, 0600), null = open("/dev/null", O_RDONLY);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* it must not outlive the test */
	unsetenv("JOURNAL_STREAM");       /* else lines of the log begin otherwise */
	if (log < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0) {
		_exit(126);
	}
	if (play->options->wrap) {
		execl("/bin/sh", "sh", "-c", command, play->options->startalkd, "-c", conf, (char *)NULL);
	} else {
		execl(play->options->startalkd, play->options->startalkd, "-c", conf, (char *)NULL);
	}
	fprintf(stderr, "%s: %s\n", play->options->startalkd, strerror(errno));
	_exit(127);
}

static int spawn(struct play *play)
{
	struct play_server *server = &play->server;
	server->log_start = log_end(play);
	if (write_configuration(play) < 0) {
		return -1;
	}
	fflush(stdout);
	server->child = fork();
	if (server->child < 0) {
		return play_fail(play, "fork: %s", strerror(errno));
	}
	if (server->child == 0) {
		become_server(play);
	}
	server->running = true;
	server->pid = server->child;
	return 0;
}

static int64_t start_time(const struct play *play)
{
	return play->timeout > START_TIME ? play->timeout : START_TIME;
}

/* What the log says of the port and, since there may be a command in front, of the process. */
static int read_ready(struct play *play)
{
	struct play_server *server = &play->server;
	char *log = read_log(play, server->log_start), *listen = strstr(log, " listen: "),
	     *ready = strstr(log, "server: ready: ");
	char *port = listen ? strstr(listen, ": tls ") : NULL, *pid = ready ? strstr(ready, ", pid ") : NULL;
	if (port && pid) {
		char *end = port;
		while (port > listen && port[-1] != ':') {
			port--;
		}
		server->port = play_must(strndup(port, (size_t)(end - port)));
		server->pid = (pid_t)strtol(pid + strlen(", pid "), NULL, 10);
	}
	free(log);
	return server->port ? 0 : play_fail(play, "  the server's log does not tell its port");
}

static int make_users(struct play *play)
{
	int rc = 0;
	for (struct play_pair *user = play->server.users; rc == 0 && user; user = user->next) {
		rc = strcmp(user->key, "account") == 0 ? play_server_user(play, user->section, user->value) : 0;
	}
	return rc;
}

int play_server_start(struct play *play)
{
	struct play_server *server = &play->server;
	if (spawn(play) < 0) {
		return -1;
	}
	int rc = await_log(play, server->log_start, "server: ready: ", NULL, start_time(play));
	if (rc < 0) {
		return rc;
	}
	if (rc == 0) {
		play_fail(play, "  the server does not start");
		return server->running ? -1 : (judge_status(play), -1);
	}
	rc = read_ready(play);
	rc = rc < 0 ? rc : make_users(play);
	if (rc == 0) {
		setenv("PORT", server->port, 1);
		play_note(play, "server: runs on port %s in %s", server->port, server->dir);
	}
	return rc;
}

int play_server_refuses(struct play *play, const char *text)
{
	off_t start = log_end(play);
	if (spawn(play) < 0) {
		return -1;
	}
	int rc = await_log(play, start, "server: ready: ", NULL, start_time(play));
	if (rc > 0) {
		return play_fail(play, "  the server has started");
	}
	if (rc < 0 || play->server.running) {
		return rc < 0 ? rc : play_fail(play, "  the server neither starts nor ends");
	}
	play->server.child = 0;
	if (WIFSIGNALED(play->server.status)) {
		return judge_status(play);
	}
	char *log = read_log(play, start);
	bool found = !text || strstr(log, text);
	free(log);
	return found ? judge_log(play, start, true) : play_fail(play, "  the server does not say: %s", text);
}

int play_server_stop(struct play *play)
{
	struct play_server *server = &play->server;
	int64_t deadline = clock_us() + STOP_TIME;
	if (!server->child) {
		return 0;
	}
	bool alone = reap(play, false);
	if (alone) {
		play_fail(play, "  the server has ended by itself");
	} else {
		kill(server->pid, SIGTERM);
	}
	while (!reap(play, false)) {
		int rc = wait_fds(NULL, 0, clock_us() + TURN);
		if (rc < 0 || clock_us() > deadline) {
			return play_fail(play,
					 rc < 0 ? "interrupted" : "  the server does not stop within 30 s of SIGTERM");
		}
	}
	server->child = 0;
	int rc = judge_status(play);
	return judge_log(play, server->log_start, false) < 0 || rc < 0 || alone ? -1 : 0;
}

/* What a refused reload says as error is meant. */
static void allow_errors(struct play *play, off_t start)
{
	char *log = read_log(play, start), *rest = log;
	for (char *line; (line = strsep(&rest, "\n"));) {
		if (is_error(line)) {
			play_pair_set(&play->server.allowed, line, "", "");
		}
	}
	free(log);
}

int play_server_reload(struct play *play, bool refused, const char *text)
{
	off_t start = log_end(play);
	if (write_configuration(play) < 0) {
		return -1;
	}
	kill(play->server.pid, SIGHUP);
	int rc = await_log(play, start, "reload: done", "reload: refused", start_time(play));
	if (rc < 0) {
		return rc;
	}
	if (rc != (refused ? 2 : 1)) {
		return play_fail(play, rc ? refused ? "  the server takes the configuration"
						    : "  the server refuses the configuration"
					  : "  the server does not tell of a reload");
	}
	if (refused) {
		char *log = read_log(play, start);
		bool found = !text || strstr(log, text);
		free(log);
		allow_errors(play, start);
		return found ? 0 : play_fail(play, "  the server does not say: %s", text);
	}
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	remove(path);
	return 0;
}

void play_server_fini(struct play *play)
{
	struct play_server *server = &play->server;
	if (server->running) {
		kill(server->pid, SIGKILL);
		kill(server->child, SIGKILL);
		reap(play, true);
	}
	if (server->dir && !play->options->keep) {
		nftw(server->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	}
	free(server->dir);
	free(server->log);
	free(server->port);
	play_pair_remove(&server->modules, NULL);
	play_pair_remove(&server->options, NULL);
	play_pair_remove(&server->users, NULL);
	play_pair_remove(&server->allowed, NULL);
}

/* ---- accounts ---- */

/* As an operator would, beside the server. */
int play_server_user(struct play *play, const char *name, const char *password)
{
	static const char sql[] = "INSERT OR IGNORE INTO users (username, password) VALUES (?, ?)";
	sqlite3 *db = NULL;
	sqlite3_stmt *statement = NULL;
	char *path = play_format("%s/state/startalk.db", play->server.dir);
	int rc = 0;
	if (!play_pair_get(play->server.modules, "auth_sqlite", "")) {
		free(path);
		return 0; /* some other module knows who there is */
	}
	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK ||
	    sqlite3_busy_timeout(db, 10000) != SQLITE_OK ||
	    sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK ||
	    sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC) != SQLITE_OK ||
	    sqlite3_bind_text(statement, 2, password, -1, SQLITE_STATIC) != SQLITE_OK ||
	    sqlite3_step(statement) != SQLITE_DONE) {
		rc = play_fail(play, "  no account can be made: %s: %s", path, sqlite3_errmsg(db));
	}
	sqlite3_finalize(statement);
	sqlite3_close(db);
	free(path);
	return rc;
}
