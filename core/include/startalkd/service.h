/* SPDX-License-Identifier: MIT */
#ifndef STARTALKD_SERVICE_H
#define STARTALKD_SERVICE_H

#include <startalkd/module.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Tables of the services that modules of this server offer to each other and to yours; see stk_provide() and stk_use(). A table
 * grows at its end only: read `size` before what a newer minor version added. All functions are for the router thread. */

/* Service "users" 1.0: who has an account. Offered by auth modules; asked by the core before it routes. */
struct stk_users {
	uint32_t size;
	/* BARE is a folded bare JID. Must answer at once: from memory, or with one look at an index. */
	bool (*exists)(struct stk_module *module, const char *bare);
};

/* Service "archive" 1.0: keeps messages. Asked by the module that delivers them. */
struct stk_archive {
	uint32_t size;
	/* Stores MESSAGE (borrowed; attributes from, to, type, msec_times; body with id), as sent by the bare JID of its from to that
	 * of its to. DONE is called once, later, when it is on disk: STATUS 0 and ROW above 0: stored; 0 and ROW 0: stored already
	 * under this sender and id, TIME is the stored message's; else -errno: -EEXIST another message has this sender and id, -ENOSPC, -EIO ...
	 * Calls are done in the order of the stores. 0, or -EAGAIN: too many wait, DONE is not called. */
	int (*store)(struct stk_module *module, struct stk_stanza *message,
	             void (*done)(int status, uint64_t row, int64_t time, void *arg), void *arg);
	/* Does what MESSAGE, a readmark or revoke, asks of stored messages. DONE as above with ROW 0; -EACCES: not allowed,
	 * -EINVAL: makes no sense, -ENOENT. */
	int (*apply)(struct stk_module *module, struct stk_stanza *message,
	             void (*done)(int status, uint64_t row, int64_t time, void *arg), void *arg);
	/* Sends MESSAGE (taken) to SESSION in its turn: at once, or behind the backlog that is still on its way. ROW is what DONE
	 * told of a stored one, else 0. 0 or -errno as stk_send_to(). */
	int (*deliver)(struct stk_module *module, struct stk_session *session, struct stk_stanza *message, uint64_t row);
};

/* Service "command:NAME" 1.0: a command of startalkctl and of the admin socket. */
struct stk_answer;
struct stk_command {
	uint32_t size;
	const char *usage; /* one line, as startalkctl help prints it: "kick USER [--code N]" */
	const char *help;  /* one sentence */
	/* ARGS is the request, a JSON object; startalkctl sends all values as strings but for --flags, which are true. Answer through
	 * the functions below, now or later, and end it exactly once, in unload() at the latest. When nobody offers "answers" any
	 * more, there is nothing to end. */
	void (*run)(struct stk_module *module, const char *args, struct stk_answer *answer);
};

/* Service "answers" 1.0, offered by the module that runs commands. */
struct stk_answers {
	uint32_t size;
	/* One line of the answer: a JSON object on one line, without a member "ok". A member "text" is for people. 0; -EAGAIN: not
	 * taken, the reader is slow: do so again when READY (of wait) is called; -EPIPE: the reader is gone, just end; -EINVAL: no such
	 * line; -ENOMEM. */
	int (*line)(struct stk_answer *answer, const char *json);
	/* Has READY called once, later, when there is room again or the reader is gone; not after the end of the answer. */
	void (*wait)(struct stk_answer *answer, void (*ready)(struct stk_answer *answer, void *arg), void *arg);
	/* ERROR NULL: success; else what went wrong and what to do, for people. ANSWER is invalid after the call. */
	void (*end)(struct stk_answer *answer, const char *error);
};

#ifdef __cplusplus
}
#endif
#endif
