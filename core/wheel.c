/* SPDX-License-Identifier: MIT */
/* A timer wheel for thousands of connections that mostly wait. Owns which turn has what; neither knows how long a
 * turn is nor what becomes of what is due. */

#include "core/wheel.h"

void wheel_add(struct wheel *wheel, struct link *link, uint32_t at)
{
	uint32_t turns = at - wheel->now;
	if (turns > UINT32_MAX / 2 || turns < 1) { /* it was due before */
		turns = 1;
	} else if (turns > WHEEL_SLOTS - 1) {
		turns = WHEEL_SLOTS - 1;
	}
	link_push(&wheel->slots[(wheel->now + turns) % WHEEL_SLOTS], link);
}

void wheel_turn(struct wheel *wheel)
{
	wheel->now++;
}

struct link *wheel_take(struct wheel *wheel)
{
	struct link *link = wheel->slots[wheel->now % WHEEL_SLOTS];
	if (link) {
		link_remove(link);
	}
	return link;
}
