/* SPDX-License-Identifier: MIT */
#ifndef PRESENCE_SHARE_H
#define PRESENCE_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#include <startalkd/module.h>

enum share_with { SHARE_NOBODY, SHARE_ASKED, SHARE_DOMAIN };

struct share;

/* Shares presence beyond a user's own sessions, from load() on; ASKS: for how many users a session may ask. 0, -errno. */
int share_new(struct stk_module *module, enum share_with with, int64_t asks, struct share **out);
void share_free(struct share **share); /* stores NULL; NULL and *NULL are accepted */

/* SHARE may be NULL in all of these: then nothing is shared. */

/* SESSION has sent presence and is available. SAYS: with a show. */
void share_update(struct share *share, struct stk_session *session, bool says);
/* SESSION is not available any more. */
void share_withdraw(struct share *share, struct stk_session *session);
/* SESSION has ended. */
void share_forget(struct share *share, struct stk_session *session);
/* SESSION asks for the user BARE, and is told of changes from now on. 0, -EACCES: not shared, -EDQUOT: asked for too
 * many, -ENOMEM. */
int share_ask(struct share *share, struct stk_session *session, const char *bare);

#endif
