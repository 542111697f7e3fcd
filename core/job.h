/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_JOB_H
#define STK_CORE_JOB_H

#include "core/mailbox.h"
#include "core/module.h"

#define JOBS_STOP_BOUND 10.0 /* seconds that a stop waits for the jobs of all modules together */

void jobs_init(struct server *server);
/* Writes off what runs for too long, and sees to it that what will is looked at in time; also after limits have changed. */
void jobs_look(struct server *server);
/* Mail of a job that is through: runs its done, or, when it was written off before, only notes that. */
void job_returned(struct mail *mail);
/* When the server stops: MODULE's waiting jobs are sent back, those that run are waited for, within the bound. */
void jobs_cancel(struct stk_module *module);

#endif
