/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CTL_RESTORE_H
#define STK_TOOLS_CTL_RESTORE_H

#include "tools/ctl_site.h"

/* startalkctl restore: REQUEST has the members file (a whole path) and force. Returns the exit status. */
int ctl_restore(const struct ctl_place *place, const json_t *request, bool json);

#endif
