/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CTL_RESTART_H
#define STK_TOOLS_CTL_RESTART_H

#include "tools/ctl_site.h"

/* startalkctl restart: 0 when the server is back, else an exit status, told. */
int ctl_restart(const struct ctl_place *place, bool json);

#endif
