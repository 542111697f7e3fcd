/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CTL_IMPORT_H
#define STK_TOOLS_CTL_IMPORT_H

#include "tools/ctl_table.h"

/* startalkctl user import: REQUEST has the members name (the file), and perhaps dry-run, update and domain. Returns the exit status. */
int ctl_import(const struct ctl_place *place, const json_t *request, bool json);

#endif
