/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CTL_ARCHIVE_H
#define STK_TOOLS_CTL_ARCHIVE_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#define ARCHIVE_NAME_BYTES 100

/* One file in a backup. */
struct archive_entry {
	char name[ARCHIVE_NAME_BYTES];
	int64_t at, size;
	const json_t *facts; /* its entry in the manifest */
};

/* A backup that is open for reading. */
struct archive {
	int fd;
	const char *path;
	struct archive_entry *entries; /* without the manifest */
	size_t count;
	json_t *manifest;
};

/* Opens the backup PATH (borrowed) and sees that it is whole: everything that the manifest names is there, and nothing else. 0 or -errno,
 * told. */
int archive_open(struct archive *archive, const char *path);
void archive_close(struct archive *archive);
/* Writes ENTRY as a new file of that name into FOLDER, synced, and compares its checksum. 0 or -errno, told. */
int archive_extract(const struct archive *archive, const struct archive_entry *entry, int folder);
/* Is it a database? */
bool archive_is_database(const struct archive_entry *entry);

#endif
