/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_TRANSPORT_H
#define STK_CORE_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <startalkd/module.h>

struct server;

/* What carries the stanzas of a session that a module has opened; a session without one is carried by the I/O loop. */
struct carrier {
	struct stk_module *module;
	struct stk_transport transport;
	void *conn;
};

#define TRANSPORT_IDS (UINT64_C(1) << 63) /* ids of such sessions have this bit, handles of connections have not */

/* As loop_send_tracked(), through SESSION's carrier. */
int transport_send(struct stk_session *session, struct stk_stanza *stanza, uint64_t mark, bool tell_sent);
/* What became of a login: USER, or NULL with a REASON. */
void transport_tell_login(struct stk_session *session, const char *user, const char *reason);
int transport_challenge(struct stk_session *session, const uint8_t *out, size_t len);
void transport_hold(struct stk_session *session, bool hold);
/* The last word, once per session. */
void transport_end(struct stk_session *session, int code, const char *reason);
/* MODULE is about to go: ends the sessions that it carries. */
void transport_withdraw(struct stk_module *module);

#endif
