/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_SASL_H
#define STK_CORE_SASL_H

#include "core/session.h"

/* Begins the exchange that the auth stanza asks for. Its end sends success or failure and lets the connection go on. */
void sasl_start(struct stk_session *session, const struct stk_stanza *stanza);
/* The client's answer to a challenge. */
void sasl_continue(struct stk_session *session, const struct stk_stanza *stanza);
/* Fails every exchange that MODULE, which is about to go, has not finished. */
void sasl_withdraw(struct server *server, const struct stk_module *module);
/* The session ends while its exchange runs. */
void sasl_abort(struct stk_session *session);
/* Remembers that a login was refused; USER NULL: whoever it said it was. */
void sasl_note_refusal(const struct stk_session *session, const char *user, const char *why);

#endif
