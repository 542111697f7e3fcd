/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_DESCRIBE_H
#define STK_CORE_DESCRIBE_H

#include <stddef.h>
#include <stdio.h>

#include "core/settings.h"

typedef void describe_fn(const char *key, const char *value, void *arg);

/* Prints what the definition of module NAME says, as stk_describe() tells it of one that is loaded: a key, a tab, a value. SETTINGS may
 * be NULL. 0, or -EINVAL with ERR what is wrong. */
int describe_file(const struct settings *settings, const char *name, FILE *out, char *err, size_t errlen);
/* Prints the modules that could be loaded: a name, a tab, a file. None is opened. */
void describe_list(const struct settings *settings, FILE *out);

#endif
