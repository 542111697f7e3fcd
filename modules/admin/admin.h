/* SPDX-License-Identifier: MIT */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <startalkd/module.h>
#include <startalkd/service.h>

/* ---- the socket (socket.c) ---- */

#define SOCKET_PATH_MAX 107 /* bytes that the address of a socket has room for */

/* Takes one request, LINE of LEN bytes and a NUL, which is wiped after the call. */
typedef void request_fn(struct stk_module *module, char *line, size_t len, struct stk_answer *answer);

struct socket;

/* Listens on PATH. IDLE: seconds without progress after which a connection is closed, 0: never. 0; -errno, logged. */
int socket_open(struct stk_module *module, const char *path, double idle, request_fn *request, struct socket **out);
/* The same anew for a socket that is open; connections stay. On error nothing has changed. */
int socket_set(struct socket *sock, const char *path, double idle);
/* For unload() only. Answers that commands still work on go nowhere from now on. NULL is accepted. */
void socket_close(struct socket **sock);

/* Whether nobody is there any more who could read. A client that has only said all that it had to say is not gone. */
bool answer_is_gone(const struct stk_answer *answer);

/* See <startalkd/service.h>; the table of service "answers" holds these. */
int answer_line(struct stk_answer *answer, const char *json);
void answer_wait(struct stk_answer *answer, void (*ready)(struct stk_answer *answer, void *arg), void *arg);
void answer_end(struct stk_answer *answer, const char *error);
/* Ends ANSWER with an error. */
void answer_fail(struct stk_answer *answer, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Who asked. */
void answer_peer(const struct stk_answer *answer, uid_t *uid, pid_t *pid);
/* The same as text (admin.c). */
void admin_by(const struct stk_answer *answer, char *text, size_t size);

/* ---- the module (admin.c) ---- */

struct walk;
struct backup;

struct state {
	struct socket *socket;
	struct stk_service *users;
	struct used *used; /* services of commands that were asked for */
	struct walk *walks;
	struct backup *backup; /* that is under way, or NULL */
};

/* The table of command NAME and its module, or NULL. */
const struct stk_command *admin_command(struct stk_module *module, const char *name, struct stk_module **provider);

/* ---- own commands (commands.c) ---- */

/* In load(). 0 or -errno. */
int commands_provide(struct stk_module *module);
/* The command that tells what is loaded (modules.c). */
void run_module(struct stk_module *module, const char *args, struct stk_answer *answer);
/* Ends what commands have under way. */
void commands_drop(struct state *state);

#endif
