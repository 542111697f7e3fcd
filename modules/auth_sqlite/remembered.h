/* SPDX-License-Identifier: MIT */
#ifndef AUTH_SQLITE_REMEMBERED_H
#define AUTH_SQLITE_REMEMBERED_H

#include <stdbool.h>
#include <stdint.h>

/* Passwords that were right lately: for each account a hash under a key of this process, of the password together with what the
 * users table holds, so that a change of the row makes it worthless. Any thread. */
struct remembered;

#define REMEMBERED_MAX 131072 /* accounts; 43 to 85 bytes each */

struct remembered *remembered_new(void); /* NULL: out of memory or of randomness */
void remembered_free(struct remembered **remembered);
/* What is remembered is good for SECONDS from its last use; 0: nothing is remembered, and what was is wiped. */
void remembered_keep(struct remembered *remembered, double seconds);
/* Was PASSWORD right for ACCOUNT (a folded bare JID) when the row held STORED and SALT (may be NULL)? NOW in ms. */
bool remembered_check(struct remembered *remembered, const char *account, const char *stored, const char *salt, const char *password,
                      int64_t now);
void remembered_add(struct remembered *remembered, const char *account, const char *stored, const char *salt, const char *password,
                    int64_t now);
/* Wipes what is too old. */
void remembered_sweep(struct remembered *remembered, int64_t now);

#endif
