/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_PRIVILEGE_H
#define STK_CORE_PRIVILEGE_H

#include "core/settings.h"

/* Gives up for good what the server has no use for: becomes the user of SETTINGS when root has started it, sees to core dumps, and can gain
 * nothing by starting programs. A state directory that is not there yet is made for that user. CONFIG is looked at, since it
 * is read again at a reload. Before there are threads. 0 or -errno, told. */
int privilege_drop(const struct settings_server *settings, const char *config);

#endif
