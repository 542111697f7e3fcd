/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_DB_COPY_H
#define STK_CORE_DB_COPY_H

#include <stddef.h>

struct sqlite3;

#define DB_COPIES 3 /* kept of a file and module */

/* Copies the file of HANDLE, before the tables of module NAME leave VERSION, to FILE.before-NAME-VERSION-DATE beside it. The caller
 * holds the file's write lock. COPY gets the path. 0 or -errno, logged. */
int db_copy(struct sqlite3 *handle, const char *name, int version, char *copy, size_t size);
/* Deletes copies that were made for NAME: those of VERSION but COPY, which is a path of db_copy(), and all but the latest DB_COPIES. */
void db_copy_prune(const char *copy, const char *name, int version);

#endif
