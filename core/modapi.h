/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_MODAPI_H
#define STK_CORE_MODAPI_H

#include "core/module.h"
#include "core/mailbox.h"

/* Mail that module calls made: runs what it asks for and frees it. Router thread. */
void modapi_run_post(struct mail *mail);
void modapi_run_written(struct mail *mail);
/* Stops and frees MODULE's timers. */
void modapi_stop_timers(struct stk_module *module);

#endif
