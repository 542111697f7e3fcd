/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_GATE_H
#define STK_CORE_GATE_H

#include <stdbool.h>

#include "core/settings.h"

/* Who may come in: how many connections an address has, and how many of all are not logged in yet. The router's thread. */
struct gate;

struct gate *gate_new(void);
void gate_free(struct gate **gate);
/* A connection from PEER ("ADDRESS:PORT", IPv6 in brackets; a /64 of it is one address). NULL: it is counted from now on; else why it is
 * refused, constant text. */
const char *gate_enter(struct gate *gate, const struct settings_limits *limits, const char *peer, double now);
void gate_log_in(struct gate *gate, const char *peer); /* it has logged in */
void gate_leave(struct gate *gate, const char *peer, bool logged_in); /* it ends */
/* Is TEXT an address, or a network as 10.0.0.0/8? */
bool gate_is_network(const char *text);
size_t gate_waiting(const struct gate *gate);                        /* how many are not logged in */
size_t gate_connections(const struct gate *gate, const char *peer); /* from PEER's address */

#endif
