/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_LINK_H
#define STK_CORE_LINK_H

#include <stdbool.h>
#include <stddef.h>

/* A place in a list, inside of what is listed. Zero-initialised is in none. */
struct link {
	struct link *next, **at;
};

static inline bool link_is_in(const struct link *link)
{
	return link->at != NULL;
}

/* LINK, which is in no list, becomes the first at HEAD. */
static inline void link_push(struct link **head, struct link *link)
{
	link->next = *head;
	link->at = head;
	if (*head) {
		(*head)->at = &link->next;
	}
	*head = link;
}

/* Nothing happens when it is in no list. */
static inline void link_remove(struct link *link)
{
	if (!link->at) {
		return;
	}
	*link->at = link->next;
	if (link->next) {
		link->next->at = link->at;
	}
	*link = (struct link){ 0 };
}

/* What LINK is the MEMBER of. */
#define LINK_OWNER(link, type, member) ((type *)(void *)((char *)(link) - offsetof(type, member)))

#endif
