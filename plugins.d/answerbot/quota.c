/* SPDX-License-Identifier: MIT */
/* Bounds what one user can have under way. Owns the list of who has something; there are never more of them than jobs,
 * so it is short. */

#include "quota.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct quota {
	struct quota *next;
	long jobs;
	char bare[];
};

int quota_begin(struct quota **list, const char *bare, long most, struct quota **out)
{
	struct quota *quota = *list;
	while (quota && strcmp(quota->bare, bare) != 0) {
		quota = quota->next;
	}
	if (quota && quota->jobs >= most) {
		return -EDQUOT;
	}
	if (!quota) {
		quota = malloc(sizeof(*quota) + strlen(bare) + 1);
		if (!quota) {
			return -ENOMEM;
		}
		quota->next = *list;
		quota->jobs = 0;
		strcpy(quota->bare, bare);
		*list = quota;
	}
	quota->jobs++;
	*out = quota;
	return 0;
}

void quota_end(struct quota **list, struct quota *quota)
{
	if (!quota || --quota->jobs) {
		return;
	}
	while (*list != quota) {
		list = &(*list)->next;
	}
	*list = quota->next;
	free(quota);
}
