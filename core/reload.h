/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_RELOAD_H
#define STK_CORE_RELOAD_H

#include "core/server.h"

/* Reads the configuration anew and makes it take effect: all of it, or, when anything in it is wrong, none. Faults and, one line
 * each, what changes (or would: DRY) go to REPORT. Sessions stay. 0 or -errno. */
int server_reload(struct server *server, bool dry, conf_report_fn *report, void *arg);

#endif
