/* SPDX-License-Identifier: MIT */
#ifndef ADMIN_FACTS_H
#define ADMIN_FACTS_H

#include <jansson.h>

/* What stk_describe() and startalkd --describe-module tell, as JSON. Shared by the module admin and startalkctl. */
struct facts {
	json_t *head;    /* what is told before the first module */
	json_t *modules; /* an object each */
};

/* 0 or -ENOMEM. Free with facts_fini() in either case. */
int facts_init(struct facts *facts);
void facts_fini(struct facts *facts);
/* One fact; ARG is the struct facts. */
void facts_add(const char *key, const char *value, void *arg);

#endif
