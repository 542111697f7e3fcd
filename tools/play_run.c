/* SPDX-License-Identifier: MIT */
/* Does the steps of a play. Owns what each verb means, and that the server is there when a step wants it. */

#include "tools/play.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHELL_LINES 20 /* of a failed command's output, in a report */

static const char *section_of(const struct play *play, const char *name)
{
	return strcmp(name, "module") == 0 ? play->name : name;
}

static int need_server(struct play *play)
{
	return play->server.port ? 0 : play_server_start(play);
}

/* ---- settings ---- */

static int do_modules(struct play *play, const struct play_step *step)
{
	char *list = play_must(strdup(step->text)), *rest = list;
	for (char *name; (name = strsep(&rest, ", \t"));) {
		if (*name && step->verb == PLAY_WITH) {
			play_pair_set(&play->server.modules, section_of(play, name), "", "");
		} else if (*name) {
			play_pair_remove(&play->server.modules, section_of(play, name));
			play_pair_remove(&play->server.options, section_of(play, name));
		}
	}
	free(list);
	return 0;
}

static const char *variable(const char *name, void *arg)
{
	(void)arg;
	return getenv(name);
}

static int do_option(struct play *play, const struct play_step *step)
{
	char *unknown = NULL, *value = play_expand(step->text, false, variable, NULL, &unknown);
	if (value) {
		play_pair_set(&play->server.options, section_of(play, step->actor), step->key, value);
	} else {
		play_fail(play, "  there is no variable %s in the environment", unknown);
	}
	free(unknown);
	free(value);
	return value ? 0 : -1;
}

static int do_user(struct play *play, const struct play_step *step)
{
	play_pair_set(&play->server.users, step->actor, "password", step->text);
	if (step->no_account) {
		return 0;
	}
	play_pair_set(&play->server.users, step->actor, "account", step->text);
	return play->server.port ? play_server_user(play, step->actor, step->text) : 0;
}

static int do_file(struct play *play, const struct play_step *step)
{
	char *path = play_format("%s/%s", play->server.dir, step->key);
	FILE *file = fopen(path, "we");
	int rc = 0;
	if (!file || fputs(step->text, file) < 0 || fflush(file) != 0) {
		rc = play_fail(play, "  %s: %s", path, strerror(errno));
	}
	if (file) {
		fclose(file);
	}
	free(path);
	return rc;
}

/* ---- shell and waiting ---- */

static void become_shell(const char *command, const char *output)
{
	int out = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600), null = open("/dev/null", O_RDONLY);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0); /* so that all that it starts can be ended */
	if (out < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) {
		_exit(126);
	}
	execl("/bin/sh", "sh", "-e", "-c", command, (char *)NULL);
	_exit(127);
}

static void show_output(struct play *play, const char *output, bool failed)
{
	char line[1024];
	FILE *file = fopen(output, "re");
	for (int lines = 0; file && fgets(line, sizeof(line), file) && lines < SHELL_LINES; lines++) {
		line[strcspn(line, "\n")] = '\0';
		if (failed) {
			play_fail(play, "    %s", line);
		} else {
			play_note(play, "shell: %s", line);
		}
	}
	if (file) {
		fclose(file);
	}
}

static int do_shell(struct play *play, const struct play_step *step)
{
	char *output = play_format("%s/shell-output", play->server.dir);
	int64_t deadline = clock_us() + play->timeout;
	int status = 0, rc = 0;
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		become_shell(step->text, output);
	}
	while (child > 0 && waitpid(child, &status, WNOHANG) == 0) {
		if (rc == 0 && (wait_fds(NULL, 0, clock_us() + 10000) < 0 || clock_us() > deadline)) {
			rc = play_fail(play, "  the command does not end within %g s", (double)play->timeout / 1e6);
			kill(-child, SIGKILL);
			kill(child, SIGKILL);
		}
	}
	if (child < 0) {
		rc = play_fail(play, "fork: %s", strerror(errno));
	} else if (rc == 0 && status != 0) {
		rc = WIFSIGNALED(status) ? play_fail(play, "  the command was ended by signal %d", WTERMSIG(status))
					 : play_fail(play, "  the command ended with status %d", WEXITSTATUS(status));
	}
	show_output(play, output, rc < 0);
	free(output);
	return rc;
}

static int do_wait(struct play *play, int64_t time)
{
	return wait_fds(NULL, 0, clock_us() + time) < 0 ? play_fail(play, "interrupted") : 0;
}

/* ---- server ---- */

static int do_reload(struct play *play, const struct play_step *step)
{
	if (step->key && do_option(play, step) < 0) {
		return -1;
	}
	if (!play->server.port) {
		return play_fail(play, "  the server does not run");
	}
	return play_server_reload(play, step->verb == PLAY_NO_RELOAD, step->key ? NULL : step->text);
}

static int stop(struct play *play)
{
	int rc = play_server_stop(play);
	free(play->server.port);
	play->server.port = NULL;
	return rc;
}

static int do_server(struct play *play, const struct play_step *step)
{
	bool runs = play->server.port != NULL;
	switch (step->verb) {
	case PLAY_START: return runs ? play_fail(play, "  the server runs already") : play_server_start(play);
	case PLAY_NO_START:
		return runs ? play_fail(play, "  the server runs already") : play_server_refuses(play, step->text);
	case PLAY_STOP: return runs ? stop(play) : play_fail(play, "  the server does not run");
	case PLAY_RESTART:
		while (play->sessions) {
			play_disconnect(play, play->sessions);
		}
		return !runs            ? play_fail(play, "  the server does not run")
		       : stop(play) < 0 ? -1
					: play_server_start(play);
	case PLAY_LOG_HAS: return play_server_log(play, step->text, step->time >= 0 ? step->time : play->timeout);
	case PLAY_LOG_HAS_NOT: return play_server_log_not(play, step->text);
	default: play_pair_set(&play->server.allowed, step->text, "", ""); return 0;
	}
}

/* ---- actors ---- */

static int do_actor(struct play *play, const struct play_step *step)
{
	struct play_session *session = play_session_find(play, step->actor);
	if (!session) {
		return play_fail(play, "  %s is not connected", step->actor);
	}
	switch (step->verb) {
	case PLAY_DISCONNECT: play_disconnect(play, session); return 0;
	case PLAY_ENDED: return play_ended(session, step);
	case PLAY_SEND: return play_send(session, step->text);
	default: return play_receive(session, step);
	}
}

static int do_connect(struct play *play, const struct play_step *step)
{
	if (play_session_find(play, step->actor)) {
		return play_fail(play, "  %s is connected already; a second session is called %.*s/RESOURCE",
				 step->actor, (int)strcspn(step->actor, "/"), step->actor);
	}
	return need_server(play) < 0        ? -1
	       : step->verb == PLAY_CONNECT ? play_connect(play, step)
					    : play_refused(play, step);
}

int play_step(struct play *play, const struct play_step *step)
{
	switch (step->verb) {
	case PLAY_TIMEOUT: play->timeout = step->time; return 0;
	case PLAY_WITH:
	case PLAY_WITHOUT: return do_modules(play, step);
	case PLAY_USER: return do_user(play, step);
	case PLAY_OPTION: return do_option(play, step);
	case PLAY_FILE: return do_file(play, step);
	case PLAY_SHELL: return do_shell(play, step);
	case PLAY_WAIT: return do_wait(play, step->time);
	case PLAY_RELOAD:
	case PLAY_NO_RELOAD: return do_reload(play, step);
	case PLAY_CONNECT:
	case PLAY_REFUSED: return do_connect(play, step);
	case PLAY_DISCONNECT:
	case PLAY_ENDED:
	case PLAY_SEND:
	case PLAY_RECEIVE:
	case PLAY_RECEIVE_NOT:
	case PLAY_NOTHING: return do_actor(play, step);
	default: return do_server(play, step);
	}
}
