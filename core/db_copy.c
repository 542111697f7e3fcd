/* SPDX-License-Identifier: MIT */
/* Copies of databases that are made before a migration, and how many of them stay. */

#include "core/db_copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

#include "core/log.h"

#define PATH_BYTES 8192

static int sync_path(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
	if (fd >= 0) {
		close(fd);
	}
	return rc;
}

static int sync_folder(const char *path)
{
	char folder[PATH_BYTES];
	snprintf(folder, sizeof(folder), "%s", path);
	char *slash = strrchr(folder, '/');
	if (slash) {
		slash[slash == folder] = '\0';
	}
	return sync_path(slash ? folder : ".", O_RDONLY | O_DIRECTORY);
}

static int error_of(struct sqlite3 *handle)
{
	int code = handle ? sqlite3_errcode(handle) & 0xff : SQLITE_NOMEM;
	return code == SQLITE_FULL ? -ENOSPC : code == SQLITE_NOMEM ? -ENOMEM : code == SQLITE_READONLY ? -EROFS : -EIO;
}

/* The connection that holds the lock cannot be read from by a backup, so there is another one. */
static int copy_pages(const char *file, const char *to)
{
	struct sqlite3 *source = NULL, *copy = NULL;
	sqlite3_backup *backup = NULL;
	int rc = sqlite3_open_v2(file, &source, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK ? 0 : error_of(source);
	if (rc == 0 && (sqlite3_open_v2(to, &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK ||
	                sqlite3_exec(copy, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", NULL, NULL, NULL) != SQLITE_OK ||
	                !(backup = sqlite3_backup_init(copy, "main", source, "main")))) {
		rc = error_of(copy);
	}
	if (backup) {
		int step = sqlite3_backup_step(backup, -1);
		int end = sqlite3_backup_finish(backup);
		rc = step == SQLITE_DONE && end == SQLITE_OK ? 0 : error_of(copy);
	}
	if (rc == 0 && sqlite3_exec(copy, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL) != SQLITE_OK) {
		rc = error_of(copy);
	}
	sqlite3_close(source);
	sqlite3_close(copy);
	return rc;
}

int db_copy(struct sqlite3 *handle, const char *name, int version, char *copy, size_t size)
{
	char part[PATH_BYTES], date[32];
	const char *file = sqlite3_db_filename(handle, "main");
	time_t now = time(NULL);
	struct tm tm;
	strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
	int len = snprintf(copy, size, "%s.before-%s-%d-%s", file, name, version, date);
	int whole = snprintf(part, sizeof(part), "%s.tmp", copy);
	int rc = len >= (int)size || whole >= (int)sizeof(part) ? -ENAMETOOLONG : 0;
	if (rc == 0) {
		unlink(part);
		int fd = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		rc = fd < 0 ? -errno : 0;
		if (fd >= 0) {
			close(fd);
			rc = copy_pages(file, part);
		}
	}
	rc = rc < 0 ? rc : sync_path(part, O_RDWR);
	rc = rc == 0 && rename(part, copy) < 0 ? -errno : rc;
	rc = rc < 0 ? rc : sync_folder(copy);
	if (rc < 0) {
		unlink(part);
		log_write(LOG_ERR, "db: %s: no copy can be made before the tables of module %s are brought up to date, so they are not: %s", file, name,
		          strerror(-rc));
	}
	return rc;
}

/* ---- how many stay ---- */

struct kept {
	char *name; /* of the file */
	const char *date;
	bool same; /* version */
};

static int by_date(const void *a, const void *b)
{
	const struct kept *one = a, *other = b;
	return strcmp(other->date, one->date); /* the latest first */
}

/* REST is "VERSION-DATE". False: something else. */
static bool read_name(const char *rest, int version, struct kept *kept)
{
	char *end = NULL;
	long number = strtol(rest, &end, 10);
	if (end == rest || *end != '-' || strlen(end + 1) != 16 || end[9] != 'T' || end[16] != 'Z') {
		return false;
	}
	kept->date = end + 1;
	kept->same = number == version;
	return true;
}

void db_copy_prune(const char *copy, const char *name, int version)
{
	char prefix[PATH_BYTES], path[2 * PATH_BYTES];
	struct kept kept[64];
	size_t count = 0, stay = 0;
	snprintf(prefix, sizeof(prefix), "%s", copy);
	char *slash = strrchr(prefix, '/'), *end = slash ? strstr(slash, ".before-") : NULL;
	DIR *dir = end ? (*slash = '\0', opendir(prefix)) : NULL;
	const char *own = strrchr(copy, '/') + 1;
	size_t len = end ? (size_t)(end - slash - 1) + strlen(".before-") + strlen(name) + 1 : 0;
	for (struct dirent *entry; dir && count < sizeof(kept) / sizeof(*kept) && (entry = readdir(dir));) {
		char *file = strncmp(entry->d_name, own, len) == 0 ? strdup(entry->d_name) : NULL;
		if (file && read_name(file + len, version, &kept[count])) {
			kept[count++].name = file;
		} else {
			free(file);
		}
	}
	if (dir) {
		closedir(dir);
	}
	qsort(kept, count, sizeof(*kept), by_date);
	for (size_t i = 0; i < count; i++) {
		bool mine = strcmp(kept[i].name, own) == 0;
		if (!mine && (kept[i].same || stay >= DB_COPIES)) {
			snprintf(path, sizeof(path), "%s/%s", prefix, kept[i].name);
			unlink(path);
		} else {
			stay++;
		}
		free(kept[i].name);
	}
}
