/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_THROTTLE_H
#define STK_CORE_THROTTLE_H

#include <stdbool.h>

#include "core/settings.h"

/* Counts failed logins by user, by address and by the prefix of neighbouring addresses, and remembers who logged in where. Bounded memory. */
struct throttle;

struct throttle *throttle_new(void);
void throttle_free(struct throttle **throttle);
/* The address of "ADDRESS:PORT" as it is counted: IPv4 whole, IPv6 by its /64. */
void throttle_address(const char *peer, char *out, size_t size);
/* On whose account a try is: the user's, or the user's at an address that the user logged in from lately. */
enum throttle_account { THROTTLE_REFUSED, THROTTLE_USER, THROTTLE_HOME };
/* May USER try from ADDRESS now? If so it begins a try, which throttle_end() must end. NOW in seconds of any steady clock. */
enum throttle_account throttle_begin(struct throttle *throttle, const struct settings_login *limits, const char *user,
                    const char *address, double now);
void throttle_end(struct throttle *throttle, const struct settings_login *limits, enum throttle_account account, const char *user,
                  const char *address, bool success, double now);
/* How USER, or when it is NULL how ADDRESS stands now, which may be refused for its neighbours. */
void throttle_ask(const struct throttle *throttle, const struct settings_login *limits, const char *user, const char *address,
                  double now, struct stk_auth_limit *limit);

#endif
