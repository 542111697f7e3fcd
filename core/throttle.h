/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_THROTTLE_H
#define STK_CORE_THROTTLE_H

#include <stdbool.h>

#include "core/settings.h"

/* Counts failed logins by user and by address, and remembers addresses that logged in. Bounded memory. */
struct throttle;

struct throttle *throttle_new(void);
void throttle_free(struct throttle **throttle);
/* The address of "ADDRESS:PORT" as it is counted: IPv4 whole, IPv6 by its /64. */
void throttle_address(const char *peer, char *out, size_t size);
/* May USER try from ADDRESS now? True begins a try, which throttle_end() must end. NOW in seconds of any steady clock. */
bool throttle_begin(struct throttle *throttle, const struct settings_login *limits, const char *user,
                    const char *address, double now);
void throttle_end(struct throttle *throttle, const struct settings_login *limits, const char *user, const char *address,
                  bool success, double now);
/* How USER, or when it is NULL how ADDRESS stands now. */
void throttle_ask(const struct throttle *throttle, const struct settings_login *limits, const char *user, const char *address,
                  double now, struct stk_auth_limit *limit);

#endif
