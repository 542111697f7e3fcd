/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CTL_PLUGINS_H
#define STK_TOOLS_CTL_PLUGINS_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#define PLUGINS_PATH 4096

/* The folder plugins.d while it is locked against others who change it. */
struct plugins {
	const char *path;
	int fd;
};

/* Waits some seconds for others. 0, -EBUSY: still locked, -errno. */
int plugins_lock(struct plugins *plugins, const char *path);
void plugins_unlock(struct plugins *plugins);
/* The file that has been put out of use and has the section [NAME] and no other: its name into FILE. */
bool plugins_find_disabled(const struct plugins *plugins, const char *name, char *file, size_t size);
/* A text for the section [NAME] in which PAIRS, an array of "KEY=VALUE", are set: what stands for a key already is replaced, also when it is
 * commented out. malloc'd; NULL: out of memory. */
char *plugins_set(const char *text, const json_t *pairs);
/* Can VALUE be written so that it is read back as it is? */
bool plugins_can_write(const char *value);
/* The whole of a file, malloc'd, or NULL. */
char *plugins_read(const char *path);
/* These hold also when the power fails behind them, and never leave half a file. 0 or -errno. */
int plugins_write(const struct plugins *plugins, const char *file, const char *text);
int plugins_rename(const struct plugins *plugins, const char *from, const char *to);
int plugins_remove(const struct plugins *plugins, const char *file);
/* The name that FILE gets when it is put out of use; earlier ones keep theirs. */
void plugins_disabled_name(const struct plugins *plugins, const char *file, char *out, size_t size);

#endif
