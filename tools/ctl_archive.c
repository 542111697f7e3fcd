/* SPDX-License-Identifier: MIT */
/* Reads backups: a tar archive with a manifest at its end, as modules/admin/backup.c writes them. What is in one is not trusted
 * to be right, nor to have harmless names. */

#include "tools/ctl_archive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "tools/ctl.h"

#define FORMAT       1 /* the latest that is known */
#define MANIFEST     "manifest.json"
#define BLOCK        512
#define ENTRIES_MAX  1000
#define MANIFEST_MAX 4194304
#define SHA_BYTES    32

static int no_backup(const struct archive *archive, const char *why)
{
	ctl_error("%s: no whole backup of a startalkd: %s", archive->path, why);
	return -EINVAL;
}

/* Octal, or binary with the highest bit set. -1: neither. */
static int64_t read_number(const unsigned char *field, size_t len)
{
	uint64_t number = 0;
	if (field[0] & 0x80) {
		for (size_t i = 1; i < len; i++) {
			if (number >> 54) {
				return -1;
			}
			number = number << 8 | field[i];
		}
		return (int64_t)number;
	}
	size_t i = 0;
	for (; i < len && field[i] >= '0' && field[i] <= '7'; i++) {
		number = number << 3 | (uint64_t)(field[i] - '0');
	}
	return i && (i == len || field[i] == '\0' || field[i] == ' ') ? (int64_t)number : -1;
}

static bool is_header(const unsigned char block[BLOCK])
{
	unsigned sum = 0;
	for (size_t i = 0; i < BLOCK; i++) {
		sum += i >= 148 && i < 156 ? ' ' : block[i];
	}
	return memcmp(block + 257, "ustar", 5) == 0 && read_number(block + 148, 8) == (int64_t)sum && (block[156] == '0' || !block[156]);
}

/* A plain name, so that nothing is written elsewhere. */
static bool is_good_name(const char *name)
{
	return *name && *name != '.' && strlen(name) < ARCHIVE_NAME_BYTES && !strchr(name, '/');
}

static int read_manifest(struct archive *archive, const struct archive_entry *entry)
{
	if (entry->size > MANIFEST_MAX) {
		return no_backup(archive, "its manifest is too large");
	}
	char *text = malloc((size_t)entry->size + 1);
	if (text && pread(archive->fd, text, (size_t)entry->size, entry->at) == entry->size) {
		archive->manifest = json_loadb(text, (size_t)entry->size, JSON_REJECT_DUPLICATES, NULL);
	}
	free(text);
	return json_is_object(archive->manifest) ? 0 : no_backup(archive, "its manifest cannot be read");
}

static int add_entry(struct archive *archive, const struct archive_entry *entry)
{
	if (archive->count == ENTRIES_MAX) {
		return no_backup(archive, "too many files are in it");
	}
	for (size_t i = 0; i < archive->count; i++) {
		if (strcmp(archive->entries[i].name, entry->name) == 0) {
			return no_backup(archive, "two files in it have the same name");
		}
	}
	archive->entries[archive->count++] = *entry;
	return 0;
}

static int read_headers(struct archive *archive, int64_t size)
{
	unsigned char block[BLOCK];
	int rc = 0;
	for (int64_t at = 0; rc == 0 && !archive->manifest;) {
		if (pread(archive->fd, block, BLOCK, at) != BLOCK) {
			return no_backup(archive, "its end is missing");
		}
		struct archive_entry entry = { .at = at + BLOCK, .size = is_header(block) ? read_number(block + 124, 12) : -1 };
		memcpy(entry.name, block, sizeof(entry.name) - 1);
		if (entry.size < 0 || !is_good_name(entry.name)) {
			return no_backup(archive, "what is in it is damaged, or something else");
		}
		if (entry.size > size - entry.at) {
			return no_backup(archive, "its end is missing");
		}
		rc = strcmp(entry.name, MANIFEST) == 0 ? read_manifest(archive, &entry) : add_entry(archive, &entry);
		at = entry.at + (entry.size + BLOCK - 1) / BLOCK * BLOCK;
	}
	return rc;
}

static int check_manifest(struct archive *archive)
{
	json_int_t format = json_integer_value(json_object_get(archive->manifest, "format"));
	const json_t *files = json_object_get(archive->manifest, "files"), *file;
	size_t i, named = 0;
	if (format > FORMAT) {
		ctl_error("%s: its format %lld is newer than this program, which knows up to %d: use the startalkctl that made it, or a newer one",
			  archive->path, (long long)format, FORMAT);
		return -EINVAL;
	}
	json_array_foreach (files, i, file) {
		const char *name = json_string_value(json_object_get(file, "name"));
		json_int_t size = json_integer_value(json_object_get(file, "size"));
		for (size_t j = 0; name && j < archive->count; j++) {
			struct archive_entry *entry = &archive->entries[j];
			if (!entry->facts && strcmp(entry->name, name) == 0 && entry->size == size) {
				entry->facts = file;
				named++;
			}
		}
	}
	if (format < 1 || named != archive->count || named != json_array_size(files)) {
		return no_backup(archive, "what is in it is not what its manifest says");
	}
	return 0;
}

int archive_open(struct archive *archive, const char *path)
{
	struct stat st;
	*archive = (struct archive){ .path = path, .fd = open(path, O_RDONLY | O_CLOEXEC) };
	if (archive->fd < 0 || fstat(archive->fd, &st) < 0) {
		int rc = -errno;
		ctl_error("%s: %s", path, strerror(-rc));
		return rc;
	}
	archive->entries = calloc(ENTRIES_MAX, sizeof(*archive->entries));
	if (!archive->entries) {
		ctl_error("out of memory");
		return -ENOMEM;
	}
	int rc = S_ISREG(st.st_mode) ? read_headers(archive, st.st_size) : no_backup(archive, "it is no file");
	return rc < 0 ? rc : check_manifest(archive);
}

void archive_close(struct archive *archive)
{
	if (archive->fd >= 0) {
		close(archive->fd);
	}
	free(archive->entries);
	json_decref(archive->manifest);
}

bool archive_is_database(const struct archive_entry *entry)
{
	const char *kind = json_string_value(json_object_get(entry->facts, "kind"));
	return kind && strcmp(kind, "database") == 0;
}

/* ---- taking out ---- */

static int copy_bytes(const struct archive *archive, const struct archive_entry *entry, int to, uint8_t digest[SHA_BYTES])
{
	const size_t room = 1 << 18;
	char *data = malloc(room);
	gnutls_hash_hd_t hash;
	int rc = 0;
	if (!data || gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) < 0) {
		free(data);
		return -ENOMEM;
	}
	for (int64_t done = 0; rc == 0 && done < entry->size;) {
		size_t wanted = entry->size - done < (int64_t)room ? (size_t)(entry->size - done) : room;
		ssize_t n = pread(archive->fd, data, wanted, entry->at + done);
		ssize_t written = n > 0 ? write(to, data, (size_t)n) : n;
		if (written <= 0) {
			rc = written < 0 ? -errno : -EIO;
		} else {
			gnutls_hash(hash, data, (size_t)written);
			done += written;
		}
	}
	gnutls_hash_deinit(hash, digest);
	gnutls_memset(data, 0, room);
	free(data);
	return rc;
}

int archive_extract(const struct archive *archive, const struct archive_entry *entry, int folder)
{
	uint8_t digest[SHA_BYTES];
	char hex[2 * SHA_BYTES + 1];
	const char *wanted = json_string_value(json_object_get(entry->facts, "sha256"));
	int fd = openat(folder, entry->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int rc = fd < 0 ? -errno : copy_bytes(archive, entry, fd, digest);
	rc = rc == 0 && fsync(fd) < 0 ? -errno : rc;
	if (fd >= 0) {
		close(fd);
	}
	if (rc < 0) {
		ctl_error("%s: cannot be taken out of %s: %s", entry->name, archive->path, strerror(-rc));
		return rc;
	}
	for (size_t i = 0; i < SHA_BYTES; i++) {
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	}
	if (!wanted || strcmp(wanted, hex) != 0) {
		ctl_error("%s: %s in it is damaged: its checksum is not the one that was noted", archive->path, entry->name);
		return -EIO;
	}
	return 0;
}
