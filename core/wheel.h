/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_WHEEL_H
#define STK_CORE_WHEEL_H

#include <stdint.h>

#include "core/link.h"

#define WHEEL_SLOTS 128

/* Coarse timers for many: what is due at a turn lies in that turn's list, so that waiting costs nothing. Its owner turns it by a clock
 * of its own. Zero-initialised is empty. */
struct wheel {
	uint32_t now;
	struct link *slots[WHEEL_SLOTS];
};

/* LINK, which is in no list, is due at the turn AT: the next one at the earliest, WHEEL_SLOTS - 1 turns from now at the latest. It is taken
 * out with link_remove(). */
void wheel_add(struct wheel *wheel, struct link *link, uint32_t at);
/* The next turn begins; wheel_take() then gives what is due. */
void wheel_turn(struct wheel *wheel);
/* One that is due, taken out, or NULL. It may be added again at once. */
struct link *wheel_take(struct wheel *wheel);

#endif
