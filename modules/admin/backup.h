/* SPDX-License-Identifier: MIT */
#ifndef ADMIN_BACKUP_H
#define ADMIN_BACKUP_H

#include "admin.h"

/* The command backup. One at a time. */
void backup_run(struct stk_module *module, const char *args, struct stk_answer *answer);
/* For unload(): gives up what is under way. */
void backup_drop(struct stk_module *module);

#endif
