/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_MODAPI_H
#define STK_CORE_MODAPI_H

#include "core/module.h"
#include "core/mailbox.h"

/* Mail that module calls made: runs what it asks for and frees it. Router thread. */
void modapi_run_post(struct mail *mail);
void modapi_run_written(struct mail *mail);
/* Stops MODULE's timers and watches; frees those that it has not stopped itself. */
void modapi_stop_timers(struct stk_module *module);
void modapi_stop_watches(struct stk_module *module);
void modapi_free_timers(struct stk_module *module);
void modapi_free_watches(struct stk_module *module);
/* No post of MODULE is taken from now on, and none is half-way when this returns. */
void modapi_stop_posts(struct stk_module *module);
/* Takes back what MODULE offers; frees its references to what others offer. */
void service_withdraw(struct stk_module *module);
void service_forget(struct stk_module *module);
void metric_free_all(struct stk_module *module);

#endif
