/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_PLAY_H
#define STK_TOOLS_PLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/buf.h"
#include "tools/client.h"

/* startalk-module-test: a script is a play, cut into steps that are done one after the other. */

#define PLAY_MODULES_MAX 32
#define PLAY_INBOX_MAX 1024

enum play_verb {
	PLAY_TIMEOUT,
	PLAY_WITH,
	PLAY_WITHOUT,
	PLAY_USER,
	PLAY_OPTION,
	PLAY_FILE,
	PLAY_SHELL,
	PLAY_WAIT,
	PLAY_START,
	PLAY_NO_START,
	PLAY_STOP,
	PLAY_RESTART,
	PLAY_RELOAD,
	PLAY_NO_RELOAD,
	PLAY_LOG_HAS,
	PLAY_LOG_HAS_NOT,
	PLAY_LOG_MAY,
	PLAY_CONNECT,
	PLAY_REFUSED,
	PLAY_DISCONNECT,
	PLAY_ENDED,
	PLAY_SEND,
	PLAY_RECEIVE,
	PLAY_RECEIVE_NOT,
	PLAY_NOTHING,
};

struct play_step {
	struct play_step *next;
	unsigned line;
	enum play_verb verb;
	char *said;      /* its first line, as it is written */
	char *actor;     /* as said: NAME or NAME/RESOURCE; USER: the name; OPTION, RELOAD: the section, "module": the
			    tested one */
	char *key;       /* OPTION, RELOAD: the option's, or NULL; CONNECT: the resource */
	char *text;      /* the rest: stanza, quoted text, password, command, value, content, list of modules */
	int64_t time;    /* microseconds; -1: not said */
	int code;        /* ENDED: of the StreamEnd; 0: any */
	bool exact;      /* RECEIVE */
	bool tls;        /* CONNECT, REFUSED */
	bool no_account; /* USER: its password is known to the script alone */
};

struct play_script {
	const char *file;
	struct play_step *steps;
	size_t steps_n;
	bool tls; /* a step wants it */
};

/* The command line. */
struct play_options {
	const char
		*modules[PLAY_MODULES_MAX]; /* absolute paths of shared objects; the first is the one that is tested */
	size_t modules_n;
	char *startalkd, *module_dir;
	const char *wrap; /* a command in front of startalkd, or NULL */
	int64_t timeout;  /* of an expectation, microseconds */
	bool keep, verbose, tap;
};

/* A list of pairs, in order. */
struct play_pair {
	struct play_pair *next;
	char *section, *key, *value;
};

/* The throw-away server. */
struct play_server {
	char *dir, *log, *port; /* port: NULL while it does not run */
	pid_t child, pid;       /* what was started; the server itself, which differs when there is a wrapper */
	bool running;           /* the child has not been waited for */
	int status;             /* of the last one that has */
	off_t log_start;        /* where the log of this run begins */
	struct play_pair *modules, *options, *users, *allowed;
};

struct play;

/* Somebody who is logged in. */
struct play_session {
	struct client
		client; /* first: the functions of client.h that this program brings along find the session by it */
	struct client_account account;
	struct client_run run;
	struct play_session *next;
	struct play *play;
	char *label;
	struct stk_stanza *inbox[PLAY_INBOX_MAX]; /* what came and was not expected yet */
	size_t inbox_n;
	bool lost;       /* the connection is over */
	char *end;       /* the code of the StreamEnd that came, or NULL */
	char *id, *from; /* of what was expected last and came */
	struct buf error;
};

/* A script as it is played. */
struct play {
	const struct play_options *options;
	const struct play_script *script;
	const char *name; /* of the tested module */
	struct client_options login;
	struct play_server server;
	struct play_session *sessions;
	int64_t timeout;
	struct buf report; /* what went wrong, in lines */
};

/* ---- startalk-module-test.c ---- */

/* One line of comment on standard output, marked as one where the output is for programs. */
void play_note(const struct play *play, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds a line to the report. Returns -1. */
int play_fail(struct play *play, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* TEXT, or the end of the program when there is no memory. */
void *play_must(void *memory);
char *play_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- the script (play_script.c) ---- */

/* Reads FILE ("-": standard input). 0, or -1: every fault was told on standard error. */
int play_read(const char *file, struct play_script *script);
void play_script_free(struct play_script *script);
/* TEXT with ${NAME} replaced by what VALUE returns for it, escaped for XML when XML. NULL and UNKNOWN (to be freed):
 * there is no value for that name. */
char *play_expand(const char *text, bool xml, const char *(*value)(const char *name, void *arg), void *arg,
		  char **unknown);

/* ---- comparing (play_match.c) ---- */

/* Is ACTUAL what WANTED describes? False with the reason in WHY. */
bool play_match(const struct stk_stanza *wanted, const struct stk_stanza *actual, bool exact, char *why, size_t size);

/* ---- the server (play_server.c) ---- */

int play_server_init(struct play *play);
/* Writes the configuration, starts the server and makes the accounts. 0 or -1, told. */
int play_server_start(struct play *play);
/* The same, of a configuration that the server must refuse, saying TEXT. */
int play_server_refuses(struct play *play, const char *text);
/* Stops it and judges how it ended. 0 or -1, told. */
int play_server_stop(struct play *play);
/* Has it ended by itself? Told when it has. */
bool play_server_died(struct play *play);
int play_server_reload(struct play *play, bool refused, const char *text);
int play_server_user(struct play *play, const char *name, const char *password);
/* Waits until the log has TEXT. */
int play_server_log(struct play *play, const char *text, int64_t timeout);
int play_server_log_not(struct play *play, const char *text);
/* Adds the log's last lines to the report. */
void play_server_tail(struct play *play);
/* Kills what still runs and removes the folder, unless it is to be kept. */
void play_server_fini(struct play *play);
void play_pair_set(struct play_pair **list, const char *section, const char *key, const char *value);
const char *play_pair_get(const struct play_pair *list, const char *section, const char *key);
void play_pair_remove(struct play_pair **list, const char *section);

/* ---- the actors (play_client.c) ---- */

struct play_session *play_session_find(struct play *play, const char *label);
int play_connect(struct play *play, const struct play_step *step);
int play_refused(struct play *play, const struct play_step *step);
void play_disconnect(struct play *play, struct play_session *session);
int play_send(struct play_session *session, const char *text);
int play_receive(struct play_session *session, const struct play_step *step);
int play_ended(struct play_session *session, const struct play_step *step);

/* ---- the play (play_run.c) ---- */

/* Does STEP. 0 or -1, told. */
int play_step(struct play *play, const struct play_step *step);

#endif
