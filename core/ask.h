/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_ASK_H
#define STK_CORE_ASK_H

#include "core/session.h"

/* An IQ result or error has come on SESSION: tells the module that asked. False: nobody has. */
bool ask_answered(struct stk_session *session, struct stk_stanza *answer);
/* SESSION has ended: what was asked on it will not be answered. */
void ask_gone(struct stk_session *session);
/* MODULE is about to go: it hears -ECANCELED for everything that it has asked. */
void ask_withdraw(struct stk_module *module);

#endif
