/* SPDX-License-Identifier: MIT */
#ifndef ANSWERBOT_QUOTA_H
#define ANSWERBOT_QUOTA_H

/* How many jobs of each user are under way. A user without one takes no memory. */
struct quota;

/* Counts one more for the bare JID, as registered. 0 with *QUOTA; -EDQUOT: there are MOST already; -ENOMEM. */
int quota_begin(struct quota **list, const char *bare, long most, struct quota **quota);
void quota_end(struct quota **list, struct quota *quota); /* NULL is accepted */

#endif
