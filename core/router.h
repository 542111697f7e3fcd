/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_ROUTER_H
#define STK_CORE_ROUTER_H

#include "core/server.h"
#include "core/session.h"

/* Deals with all mail that waits. True when there was any. */
bool router_run(struct server *server);
/* Sends STANZA (taken; NULL: out of memory) to SESSION as it is. 0, -ENOMEM, -ECANCELED: a hook kept it, -ENOTCONN. */
int router_deliver(struct stk_session *session, struct stk_stanza *stanza);
/* Answers a request that has had no answer with the error that -ERROR stands for. 0 or -errno. */
int router_fail(struct stk_stanza *request, int error);

#endif
