/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CTL_TABLE_H
#define STK_TOOLS_CTL_TABLE_H

#include "tools/ctl_site.h"

#define TABLE_COLUMNS 128

/* A table of accounts in a file: CSV with a line of titles, or the dump of a PostgreSQL table. */
struct table {
	const char *path;
	char *data, *at, *end;
	long line;              /* of AT */
	bool dump, done;        /* COPY ... FROM stdin; its end was seen */
	char separator;         /* of CSV */
	char *titles[TABLE_COLUMNS];
	size_t columns;
};

/* Reads PATH (borrowed) and finds where the rows begin. 0 or -errno, told. */
int table_open(struct table *table, const char *path);
/* The next row: FIELDS gets as many as there are titles, good until table_close(); NULL for one that is NULL. LINE is where it begins. 1; 0: no
 * more; -errno, told. */
int table_next(struct table *table, char **fields, long *line);
void table_close(struct table *table); /* wipes */

#endif
