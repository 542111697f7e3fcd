/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_NOTIFY_H
#define STK_CORE_NOTIFY_H

#include <ev.h>

/* Tells the service manager how the server is: the datagrams of sd_notify(3). All but notify_init() do nothing when there is no manager that
 * wants to know. The router's thread, which is the process's first. */

/* Takes what the manager has put into the environment, and takes it out of there, so that nothing that the server loads or starts speaks for
 * it. Before there are threads. */
void notify_init(void);
/* Puts it back, for the program that is executed in this one's place. */
void notify_restore(void);
/* The server is ready; from now on EV has to run, or the manager's watchdog bites. */
void notify_ready(struct ev_loop *ev);
/* Around a reload. */
void notify_reloading(void);
void notify_reloaded(int rc);
void notify_stopping(void);
/* Before the loop of notify_ready() is destroyed. */
void notify_fini(void);

#endif
