/* SPDX-License-Identifier: MIT */
/* The folder plugins.d as startalkctl changes it: whole files, one change at a time, each on disk before the next step. Which file and
 * why is ctl_module.c's business. */

#include "tools/ctl_plugins.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/conf.h"

#define LOCK_TRIES 150 /* of 0.1 s */
#define DISABLED   ".conf.disabled"
#define FILE_MAX   (1024 * 1024)

int plugins_lock(struct plugins *plugins, const char *path)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	*plugins = (struct plugins){ .path = path, .fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	int rc = plugins->fd < 0 ? -errno : -EBUSY;
	for (int i = 0; i < LOCK_TRIES && rc == -EBUSY; i++) {
		rc = flock(plugins->fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno == EWOULDBLOCK ? -EBUSY : -errno;
		if (rc == -EBUSY) {
			nanosleep(&pause, NULL);
		}
	}
	return rc;
}

void plugins_unlock(struct plugins *plugins)
{
	if (plugins->fd >= 0) {
		close(plugins->fd);
	}
	plugins->fd = -1;
}

/* ---- what is there ---- */

static int is_disabled(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name), tail = strlen(DISABLED);
	return entry->d_name[0] != '.' && len > tail && strcmp(entry->d_name + len - tail, DISABLED) == 0;
}

static void overlook(const char *fault, void *arg)
{
	(void)fault;
	(void)arg;
}

static bool is_for(const char *path, const char *name)
{
	struct conf *conf = conf_new();
	bool found = false;
	if (conf) {
		(void)conf_read_file(conf, path, overlook, NULL);
		const struct conf_section *first = conf_sections(conf);
		found = first && !first->next && strcmp(first->name, name) == 0;
	}
	conf_free(&conf);
	return found;
}

bool plugins_find_disabled(const struct plugins *plugins, const char *name, char *file, size_t size)
{
	struct dirent **entries;
	int count = scandir(plugins->path, &entries, is_disabled, alphasort);
	bool found = false;
	for (int i = 0; i < count; i++) {
		char path[PLUGINS_PATH + 256];
		snprintf(path, sizeof(path), "%s/%s", plugins->path, entries[i]->d_name);
		if (!found && is_for(path, name)) {
			found = snprintf(file, size, "%s", entries[i]->d_name) < (int)size;
		}
		free(entries[i]);
	}
	if (count >= 0) {
		free(entries);
	}
	return found;
}

char *plugins_read(const char *path)
{
	FILE *in = fopen(path, "re");
	char *text = in ? malloc(FILE_MAX + 1) : NULL;
	size_t len = text ? fread(text, 1, FILE_MAX + 1, in) : 0;
	bool bad = !text || ferror(in) || len > FILE_MAX;
	if (in) {
		fclose(in);
	}
	if (bad) {
		free(text);
		return NULL;
	}
	text[len] = '\0';
	return text;
}

void plugins_disabled_name(const struct plugins *plugins, const char *file, char *out, size_t size)
{
	struct stat st;
	snprintf(out, size, "%s.disabled", file);
	for (unsigned i = 1; fstatat(plugins->fd, out, &st, AT_SYMLINK_NOFOLLOW) == 0; i++) {
		snprintf(out, size, "%s.disabled.%u", file, i);
	}
}

/* ---- text ---- */

/* The line that sets the key of PAIR, LEN bytes of it, or says as a comment how it would be set. */
static bool sets(const char *line, const char *pair, size_t len)
{
	line += strspn(line, ";# \t");
	return strncmp(line, pair, len) == 0 && line[len + strspn(line + len, " \t")] == '=';
}

static bool needs_quotes(const char *value)
{
	size_t size = strlen(value);
	return size && (strchr(" \t;\"", value[0]) || strchr(" \t", value[size - 1]) || strstr(value, " ;") || strstr(value, "\t;"));
}

/* There is no escape for a quote between quotes. */
bool plugins_can_write(const char *value)
{
	return !needs_quotes(value) || !strchr(value, '"');
}

static void put_pair(FILE *out, const char *pair, size_t len)
{
	const char *value = pair + len + 1;
	bool quoted = needs_quotes(value);
	fprintf(out, "%.*s = %s%s%s\n", (int)len, pair, quoted ? "\"" : "", value, quoted ? "\"" : "");
}

/* TEXT with PAIR set: in the place of the last line that sets it, else of the last comment that does, else behind all. */
static char *set_one(const char *text, const char *pair)
{
	size_t key = strcspn(pair, "="), size;
	const char *place = NULL;
	bool active = false;
	char *result = NULL;
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		bool comment = *line == ';' || *line == '#';
		if (sets(line, pair, key) && (!comment || !active)) {
			place = line;
			active = !comment;
		}
	}
	FILE *out = open_memstream(&result, &size);
	if (!out) {
		return NULL;
	}
	if (place) {
		const char *rest = place + strcspn(place, "\n");
		fwrite(text, 1, (size_t)(place - text), out);
		put_pair(out, pair, key);
		fputs(rest + (*rest == '\n'), out);
	} else {
		bool open_end = *text && text[strlen(text) - 1] != '\n';
		fprintf(out, "%s%s", text, open_end ? "\n" : "");
		put_pair(out, pair, key);
	}
	if (fclose(out) != 0) {
		free(result);
		return NULL;
	}
	return result;
}

char *plugins_set(const char *text, const json_t *pairs)
{
	char *now = strdup(text);
	size_t i;
	json_t *pair;
	json_array_foreach (pairs, i, pair) {
		char *next = now ? set_one(now, json_string_value(pair)) : NULL;
		free(now);
		now = next;
	}
	return now;
}

/* ---- changes ---- */

static int write_all(int fd, const char *text)
{
	size_t len = strlen(text);
	while (len) {
		ssize_t n = write(fd, text, len);
		if (n < 0 && errno != EINTR) {
			return -errno;
		}
		text += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* Who may read the folder may read the file: the server may run as somebody else than who writes here. */
static int adapt(const struct plugins *plugins, int fd)
{
	struct stat st;
	if (fstat(plugins->fd, &st) < 0) {
		return -errno;
	}
	bool given = fchown(fd, (uid_t)-1, st.st_gid) == 0; /* the group may not be ours to give */
	mode_t mode = (st.st_mode & (given ? 0644 : 0604)) | 0600;
	return fchmod(fd, mode) < 0 ? -errno : 0;
}

/* One that was cut off leaves its hidden file, which the server does not read and the next one replaces. */
int plugins_write(const struct plugins *plugins, const char *file, const char *text)
{
	char temporary[300];
	snprintf(temporary, sizeof(temporary), ".%.250s.new", file);
	(void)unlinkat(plugins->fd, temporary, 0);
	int fd = openat(plugins->fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		return -errno;
	}
	int rc = adapt(plugins, fd);
	rc = rc < 0 ? rc : write_all(fd, text);
	rc = rc < 0 ? rc : fsync(fd) < 0 ? -errno : 0;
	if (close(fd) < 0 && rc == 0) {
		rc = -errno;
	}
	rc = rc < 0 ? rc : plugins_rename(plugins, temporary, file);
	if (rc < 0) {
		(void)unlinkat(plugins->fd, temporary, 0);
	}
	return rc;
}

int plugins_rename(const struct plugins *plugins, const char *from, const char *to)
{
	return renameat(plugins->fd, from, plugins->fd, to) < 0 || fsync(plugins->fd) < 0 ? -errno : 0;
}

int plugins_remove(const struct plugins *plugins, const char *file)
{
	return unlinkat(plugins->fd, file, 0) < 0 || fsync(plugins->fd) < 0 ? -errno : 0;
}
