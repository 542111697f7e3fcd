/* SPDX-License-Identifier: MIT */
/* startalkctl restore: makes a state directory of a backup beside the present one, has it checked, and changes the two in one
 * step. What was there is kept aside. */

#include "tools/ctl_restore.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

#include "tools/ctl_archive.h"
#include "tools/ctl_module.h"

#define PATH_BYTES 4096
#define DEFAULT_CONFIG STK_SYSCONF_DIR "/startalkd/startalkd.conf"

struct restore {
	const char *config; /* NULL: only the state directory is known */
	char dir[PATH_BYTES], fresh[PATH_BYTES + 16], aside[PATH_BYTES + 64];
	bool exists; /* the state directory */
	int lock;
	char *user, *group; /* that the server becomes, or NULL */
	struct stat owner;  /* of the state directory; when there is none that is the server's user, or its parent's owner */
};

/* ---- where ---- */

static void overlook(const char *fault, void *arg)
{
	(void)fault;
	(void)arg;
}

/* Whole also when it is not there yet. Returns its length, 0: none. */
static size_t set_dir(struct restore *restore, const char *dir)
{
	char *whole = realpath(dir, NULL), *here = whole || dir[0] == '/' ? NULL : getcwd(NULL, 0);
	int n = snprintf(restore->dir, sizeof(restore->dir), "%s%s%s", here ? here : "", here ? "/" : "", whole ? whole : dir);
	size_t len = n > 0 && n < (int)sizeof(restore->dir) && restore->dir[0] == '/' ? (size_t)n : 0;
	while (len > 1 && restore->dir[len - 1] == '/') {
		restore->dir[--len] = '\0';
	}
	free(whole);
	free(here);
	return len;
}

static int find_dir(const struct ctl_place *place, struct restore *restore)
{
	if (place->socket) {
		ctl_error("restore wants to know the state directory: -c FILE or --state-dir DIR");
		return EXIT_USAGE;
	}
	struct settings_server server = { 0 };
	struct option_table table = settings_table("server");
	struct conf *conf = conf_new();
	const char *dir = place->state_dir;
	if (!dir && conf) {
		restore->config = place->config ? place->config : DEFAULT_CONFIG;
		(void)conf_read_file(conf, restore->config, overlook, NULL);
		(void)conf_apply(conf_find(conf, "server", NULL), &table, &server, overlook, NULL);
		dir = server.state_dir;
	}
	size_t len = dir ? set_dir(restore, dir) : 0;
	restore->user = server.user ? strdup(server.user) : NULL;
	restore->group = server.group ? strdup(server.group) : NULL;
	option_free(&table, &server);
	conf_free(&conf);
	if (len < 2) {
		ctl_error("%s: there is no usable state-dir in it; give -c FILE or --state-dir DIR",
			  restore->config ? restore->config : place->state_dir);
		return EXIT_USAGE;
	}
	snprintf(restore->fresh, sizeof(restore->fresh), "%s.restoring", restore->dir);
	return EXIT_SUCCESS;
}

static bool is_database(const char *name)
{
	size_t len = strlen(name);
	return len > 3 && strcmp(name + len - 3, ".db") == 0;
}

static bool has_data(const char *dir)
{
	DIR *stream = opendir(dir);
	bool found = false;
	for (struct dirent *entry; stream && (entry = readdir(stream));) {
		found = found || is_database(entry->d_name);
	}
	if (stream) {
		closedir(stream);
	}
	return found;
}

static int find_owner(struct restore *restore)
{
	const struct passwd *user = restore->user ? getpwnam(restore->user) : NULL;
	const struct group *group = restore->group ? getgrnam(restore->group) : NULL;
	if ((restore->user && !user) || (restore->group && !group)) {
		ctl_error("the server's user %s or group %s does not exist", restore->user, restore->group ? restore->group : "");
		return EXIT_REFUSED;
	}
	restore->owner.st_uid = user ? user->pw_uid : restore->owner.st_uid;
	restore->owner.st_gid = group ? group->gr_gid : user ? user->pw_gid : restore->owner.st_gid;
	return EXIT_SUCCESS;
}

/* The lock is the server's: while it is ours none starts. It goes aside with the old directory. */
static int lock_dir(struct restore *restore)
{
	char path[PATH_BYTES + 32], parent[PATH_BYTES];
	struct stat st;
	restore->exists = stat(restore->dir, &st) == 0;
	snprintf(parent, sizeof(parent), "%s", restore->dir);
	*strrchr(parent, '/') = '\0';
	if (stat(restore->exists ? restore->dir : *parent ? parent : "/", &restore->owner) < 0) {
		ctl_error("%s: %s", parent, strerror(errno));
		return EXIT_REFUSED;
	}
	if (!restore->exists) {
		return find_owner(restore);
	}
	snprintf(path, sizeof(path), "%s/startalkd.lock", restore->dir);
	restore->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (restore->lock < 0 || flock(restore->lock, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK) {
			ctl_error("a server runs with %s; stop it first", restore->dir);
		} else {
			ctl_error("%s: %s", path, strerror(errno));
		}
		return EXIT_REFUSED;
	}
	return EXIT_SUCCESS;
}

/* ---- the new directory ---- */

/* It has plain files only: it is made here and nowhere else. */
static void remove_dir(const char *dir)
{
	DIR *stream = opendir(dir);
	for (struct dirent *entry; stream && (entry = readdir(stream));) {
		(void)unlinkat(dirfd(stream), entry->d_name, 0);
	}
	if (stream) {
		closedir(stream);
	}
	rmdir(dir);
}

static int check_database(const struct restore *restore, const char *name)
{
	char path[2 * PATH_BYTES];
	struct sqlite3 *db = NULL;
	sqlite3_stmt *stmt = NULL;
	snprintf(path, sizeof(path), "%s/%s", restore->fresh, name);
	int step = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
	step = step == SQLITE_OK ? sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &stmt, NULL) : step;
	step = step == SQLITE_OK ? sqlite3_step(stmt) : step;
	const char *text = step == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
	bool good = text && strcmp(text, "ok") == 0;
	if (!good) {
		ctl_error("%s in the backup is damaged: %s", name, text ? text : db ? sqlite3_errmsg(db) : "out of memory");
	}
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	return good ? 0 : -EIO;
}

static int extract_all(const struct restore *restore, const struct archive *archive)
{
	remove_dir(restore->fresh); /* of a restore that was cut off */
	int rc = mkdir(restore->fresh, 0700) < 0 ? -errno : 0;
	int folder = rc < 0 ? -1 : open(restore->fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (folder < 0) {
		ctl_error("%s: cannot be made: %s", restore->fresh, strerror(rc < 0 ? -rc : errno));
		return -EIO;
	}
	for (size_t i = 0; i < archive->count && rc == 0; i++) {
		const struct archive_entry *entry = &archive->entries[i];
		rc = archive_extract(archive, entry, folder);
		rc = rc == 0 && archive_is_database(entry) ? check_database(restore, entry->name) : rc;
	}
	close(folder);
	return rc;
}

/* Whether this program and its modules know these tables is found out by having them opened, in the new directory. */
static int check_program(const struct restore *restore, const struct ctl_place *place)
{
	struct site site;
	char *err = NULL;
	if (!restore->config) {
		return 0; /* which modules there are is not known; the server itself refuses what is too new */
	}
	if (site_open(&site, place) != EXIT_SUCCESS || site.running) {
		if (site.running) {
			ctl_error("a server runs with %s; stop it first", restore->config);
		}
		site_close(&site);
		return -EBUSY;
	}
	int rc = site_run(&site, "--check-state", restore->fresh, NULL, &err);
	if (rc < 0) {
		ctl_error("the program startalkd, which has to know whether it can use the backup, is not found beside this one");
	} else if (rc > 0) {
		char *rest = NULL;
		for (char *line = err ? strtok_r(err, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
			ctl_error("%s", line);
		}
		ctl_error("nothing has changed: startalkd cannot use what is in the backup");
	}
	free(err);
	site_close(&site);
	return rc == 0 ? 0 : -EINVAL;
}

/* The server's, who may be another user than the one who does this, with the mode that the folder had. */
static int give_away(const struct restore *restore)
{
	int rc = 0;
	DIR *stream = opendir(restore->fresh);
	for (struct dirent *entry; stream && (entry = readdir(stream));) {
		if (entry->d_name[0] != '.' &&
		    fchownat(dirfd(stream), entry->d_name, restore->owner.st_uid, restore->owner.st_gid, AT_SYMLINK_NOFOLLOW) < 0) {
			rc = -errno;
		}
	}
	if (!stream || fsync(dirfd(stream)) < 0 || fchown(dirfd(stream), restore->owner.st_uid, restore->owner.st_gid) < 0 ||
	    (restore->exists && fchmod(dirfd(stream), restore->owner.st_mode & 07777) < 0)) {
		rc = -errno;
	}
	if (stream) {
		closedir(stream);
	}
	if (rc < 0) {
		ctl_error("%s: cannot be given to the owner of the state directory: %s", restore->fresh, strerror(-rc));
	}
	return rc;
}

/* ---- the change ---- */

static int sync_parent(const char *dir)
{
	char parent[PATH_BYTES];
	snprintf(parent, sizeof(parent), "%s", dir);
	char *slash = strrchr(parent, '/');
	slash[slash == parent] = '\0';
	int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
	if (fd >= 0) {
		close(fd);
	}
	return rc;
}

static void name_aside(struct restore *restore)
{
	char date[32];
	time_t now = time(NULL);
	struct tm tm;
	struct stat st;
	strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
	snprintf(restore->aside, sizeof(restore->aside), "%s.before-restore-%s", restore->dir, date);
	for (int i = 2; lstat(restore->aside, &st) == 0 && i < 100; i++) {
		snprintf(restore->aside, sizeof(restore->aside), "%s.before-restore-%s-%d", restore->dir, date, i);
	}
}

/* At any moment there is one whole directory under the name; only file systems that cannot exchange have a gap. */
static int change(struct restore *restore)
{
	int rc = 0;
	if (!restore->exists) {
		rc = rename(restore->fresh, restore->dir) < 0 ? -errno : 0;
	} else {
		name_aside(restore);
		rc = renameat2(AT_FDCWD, restore->fresh, AT_FDCWD, restore->dir, RENAME_EXCHANGE) < 0 ? -errno : 0;
		if (rc == 0) {
			rc = rename(restore->fresh, restore->aside) < 0 ? -errno : 0;
		} else if (rc == -EINVAL || rc == -ENOSYS) {
			rc = rename(restore->dir, restore->aside) < 0 || rename(restore->fresh, restore->dir) < 0 ? -errno : 0;
		}
	}
	rc = rc < 0 ? rc : sync_parent(restore->dir);
	if (rc < 0) {
		ctl_error("%s: cannot be put in its place: %s%s", restore->dir, strerror(-rc),
			  rc == -EBUSY ? "; the folder is a mount point: unpack the backup, a tar archive, into it by hand" : "");
	}
	return rc;
}

static int say_done(const struct restore *restore, const struct archive *archive, bool json)
{
	char date[32] = "?";
	time_t made = (time_t)(json_integer_value(json_object_get(archive->manifest, "made")) / 1000);
	struct tm tm;
	const char *version = json_string_value(json_object_get(archive->manifest, "version"));
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&made, &tm));
	module_say(json, "%s: %zu files, as they were on %s (startalkd %s)", restore->dir, archive->count, date, version ? version : "?");
	if (restore->exists) {
		module_say(json, "%s: what was there before", restore->aside);
	}
	return EXIT_SUCCESS;
}

int ctl_restore(const struct ctl_place *place, const json_t *request, bool json)
{
	struct restore restore = { .lock = -1 };
	struct archive archive = { .fd = -1 };
	bool force = json_is_true(json_object_get(request, "force"));
	int status = find_dir(place, &restore);
	status = status ? status : lock_dir(&restore);
	if (!status && restore.exists && !force && has_data(restore.dir)) {
		ctl_error("%s has databases in it; --force keeps it aside and puts the backup in its place", restore.dir);
		status = EXIT_REFUSED;
	}
	int rc = status ? -EINVAL : archive_open(&archive, json_string_value(json_object_get(request, "file")));
	if (rc == 0) {
		rc = extract_all(&restore, &archive);
		rc = rc < 0 ? rc : give_away(&restore); /* the server that looks at it is not root any more */
		rc = rc < 0 ? rc : check_program(&restore, place);
		rc = rc < 0 ? rc : give_away(&restore);
		rc = rc < 0 ? rc : change(&restore);
		if (rc < 0) {
			remove_dir(restore.fresh);
		}
	}
	status = status ? status : rc < 0 ? EXIT_REFUSED : say_done(&restore, &archive, json);
	archive_close(&archive);
	if (restore.lock >= 0) {
		close(restore.lock);
	}
	free(restore.user);
	free(restore.group);
	return status;
}
