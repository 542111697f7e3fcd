/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CTL_MODULE_H
#define STK_TOOLS_CTL_MODULE_H

#include "tools/ctl_site.h"

/* startalkctl module WORDS. Returns the exit status. */
int ctl_module(const struct ctl_place *place, const json_t *words, bool json);
/* module list and module info (ctl_inspect.c). */
int inspect_list(const struct site *site, bool json);
int inspect_module(struct site *site, const char *name, bool json);
/* One line for people; JSON: an object with the member text. */
void module_say(bool json, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
