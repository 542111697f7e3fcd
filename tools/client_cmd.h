/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CLIENT_CMD_H
#define STK_TOOLS_CLIENT_CMD_H

#include "tools/client.h"

/* ---- arguments ---- */

char *command_word(char **rest); /* the next word of REST, which moves on; NULL: there is none */
char *command_rest(char *rest);  /* what is left of REST, without spaces before it */
int command_misuse(struct client *client, const char *usage); /* tells; -EINVAL */
int command_no_memory(struct client *client);                 /* tells; -ENOMEM */
/* A JID as typed, to be freed; a name without domain is in the own one. NULL, told: it is none. */
char *command_jid(struct client *client, const char *typed);
int command_number(const char *text, long min, long max, long *number); /* 0 or -EINVAL; TEXT may be NULL */
/* Sends an IQ that has client->asked as its id; on 0 ANSWER is its result, and an error is told as NAME's. */
int command_ask(struct client *client, const char *name, struct stk_stanza *request, struct stk_stanza **answer,
		double *ms);

/* ---- commands of other files; each gets what stands behind its name. 0 or -errno, told ---- */

int command_to(struct client *client, char *arguments);
int command_msg(struct client *client, char *arguments);
int command_typing(struct client *client, char *arguments);
int command_mark(struct client *client, char *arguments);
int command_revoke(struct client *client, char *arguments);
int command_history(struct client *client, char *arguments);

#endif
