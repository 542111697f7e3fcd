/* SPDX-License-Identifier: MIT */
/* A SQLite VFS that loses with the process what was not synced, as a machine without power would: databases, journals
 * and WALs live in memory and reach the disk in xSync only. LD_PRELOAD of the shared object makes it the default of a
 * whole process. Locks and shared memory are those of the VFS "unix" beneath, so nobody else may use the files then. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#define BLOCK 4096u /* unit of what xSync writes */
#define KEPT  (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL)

/* A file as the process sees it, shared by all that have it open. Outlives them while it has unsynced bytes. */
struct image {
	struct image *next;
	char *path;
	unsigned char *data;
	bool *dirty; /* one for each block */
	size_t size, capacity; /* bytes; capacity is a multiple of BLOCK */
	bool changed; /* since the last sync, in bytes or size */
	bool deleted; /* no longer in the list */
	int handles;
};

struct file {
	sqlite3_file base;
	struct image *image;
	sqlite3_file *real; /* behind this struct, in the same memory */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list and everything in it */
static struct image *images;
static sqlite3_vfs *below;

static struct file *file_of(sqlite3_file *base)
{
	return (struct file *)(void *)base;
}

/* ---- images, under the lock ---- */

static struct image *find_image(const char *path)
{
	struct image *image = images;
	while (image && strcmp(image->path, path) != 0) {
		image = image->next;
	}
	return image;
}

/* It belongs to its handles alone from now on. */
static void unlink_image(struct image *image)
{
	struct image **at = &images;
	while (*at && *at != image) {
		at = &(*at)->next;
	}
	if (*at) {
		*at = image->next;
	}
	image->deleted = true;
}

static void free_image(struct image *image)
{
	free(image->path);
	free(image->data);
	free(image->dirty);
	free(image);
}

static int reserve(struct image *image, size_t size)
{
	if (size <= image->capacity) {
		return SQLITE_OK;
	}
	size_t capacity = (size + size / 2 + BLOCK - 1) / BLOCK * BLOCK;
	unsigned char *data = realloc(image->data, capacity);
	if (data) {
		image->data = data;
	}
	bool *dirty = data ? realloc(image->dirty, capacity / BLOCK * sizeof(*dirty)) : NULL;
	if (!dirty) {
		return SQLITE_NOMEM;
	}
	image->dirty = dirty;
	memset(data + image->capacity, 0, capacity - image->capacity);
	memset(dirty + image->capacity / BLOCK, 0, (capacity - image->capacity) / BLOCK * sizeof(*dirty));
	image->capacity = capacity;
	return SQLITE_OK;
}

static void mark(struct image *image, size_t from, size_t to)
{
	for (size_t block = from / BLOCK; block * BLOCK < to; block++) {
		image->dirty[block] = true;
	}
	image->changed = true;
}

/* Bytes beyond the size are zero at all times, so that a file that grows again shows none of its past. */
static int resize(struct image *image, size_t size)
{
	int rc = reserve(image, size);
	if (rc != SQLITE_OK) {
		return rc;
	}
	if (size < image->size) {
		memset(image->data + size, 0, image->size - size);
		mark(image, size, image->size);
	} else {
		mark(image, image->size, size);
	}
	image->size = size;
	return SQLITE_OK;
}

static int load(struct image *image, sqlite3_file *real)
{
	sqlite3_int64 size = 0;
	int rc = real->pMethods->xFileSize(real, &size);
	rc = rc ? rc : reserve(image, (size_t)size);
	if (rc == SQLITE_OK && size > 0) {
		rc = real->pMethods->xRead(real, image->data, (int)size, 0);
	}
	image->size = (size_t)size;
	return rc;
}

/* What a handle opened by PATH shares with the others, with one handle more. NULL: out of memory, or unreadable. */
static struct image *get_image(const char *path, sqlite3_file *real)
{
	struct image *image = find_image(path);
	if (!image) {
		image = calloc(1, sizeof(*image));
		if (!image || !(image->path = strdup(path)) || load(image, real) != SQLITE_OK) {
			if (image) {
				free_image(image);
			}
			return NULL;
		}
		image->next = images;
		images = image;
	}
	image->handles++;
	return image;
}

static void put_image(struct image *image)
{
	if (--image->handles > 0) {
		return;
	}
	if (!image->changed && !image->deleted) {
		unlink_image(image);
	}
	if (image->deleted) {
		free_image(image);
	}
}

static int write_through(struct image *image, sqlite3_file *real)
{
	sqlite3_int64 size = 0;
	int rc = real->pMethods->xFileSize(real, &size);
	if (rc == SQLITE_OK && (size_t)size > image->size) {
		rc = real->pMethods->xTruncate(real, (sqlite3_int64)image->size);
	}
	for (size_t at = 0; rc == SQLITE_OK && at < image->size; at += BLOCK) {
		size_t length = image->size - at < BLOCK ? image->size - at : BLOCK;
		if (image->dirty[at / BLOCK]) {
			rc = real->pMethods->xWrite(real, image->data + at, (int)length, (sqlite3_int64)at);
		}
	}
	if (rc == SQLITE_OK && image->capacity) {
		memset(image->dirty, 0, image->capacity / BLOCK * sizeof(*image->dirty));
	}
	image->changed = rc != SQLITE_OK;
	return rc;
}

/* ---- a file ---- */

static int file_close(sqlite3_file *base)
{
	struct file *file = file_of(base);
	pthread_mutex_lock(&lock);
	put_image(file->image);
	pthread_mutex_unlock(&lock);
	return file->real->pMethods->xClose(file->real);
}

static int file_read(sqlite3_file *base, void *out, int amount, sqlite3_int64 offset)
{
	struct image *image = file_of(base)->image;
	size_t want = (size_t)amount, at = (size_t)offset;
	pthread_mutex_lock(&lock);
	size_t left = at < image->size ? image->size - at : 0;
	size_t got = left < want ? left : want;
	if (got) {
		memcpy(out, image->data + at, got);
	}
	pthread_mutex_unlock(&lock);
	memset((unsigned char *)out + got, 0, want - got);
	return got == want ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *base, const void *in, int amount, sqlite3_int64 offset)
{
	struct image *image = file_of(base)->image;
	size_t at = (size_t)offset, end = at + (size_t)amount;
	pthread_mutex_lock(&lock);
	int rc = end > image->size ? resize(image, end) : SQLITE_OK;
	if (rc == SQLITE_OK) {
		memcpy(image->data + at, in, (size_t)amount);
		mark(image, at, end);
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
	pthread_mutex_lock(&lock);
	int rc = resize(file_of(base)->image, (size_t)size);
	pthread_mutex_unlock(&lock);
	return rc;
}

static int file_sync(sqlite3_file *base, int flags)
{
	struct file *file = file_of(base);
	pthread_mutex_lock(&lock);
	int rc = file->image->deleted ? SQLITE_OK : write_through(file->image, file->real);
	pthread_mutex_unlock(&lock);
	return rc ? rc : file->real->pMethods->xSync(file->real, flags);
}

static int file_size(sqlite3_file *base, sqlite3_int64 *size)
{
	pthread_mutex_lock(&lock);
	*size = (sqlite3_int64)file_of(base)->image->size;
	pthread_mutex_unlock(&lock);
	return SQLITE_OK;
}

/* ---- a file: what goes on to the VFS beneath ---- */

static int file_lock(sqlite3_file *base, int level)
{
	sqlite3_file *real = file_of(base)->real;
	return real->pMethods->xLock(real, level);
}

static int file_unlock(sqlite3_file *base, int level)
{
	sqlite3_file *real = file_of(base)->real;
	return real->pMethods->xUnlock(real, level);
}

static int file_check_reserved(sqlite3_file *base, int *out)
{
	sqlite3_file *real = file_of(base)->real;
	return real->pMethods->xCheckReservedLock(real, out);
}

static int file_control(sqlite3_file *base, int op, void *arg)
{
	sqlite3_file *real = file_of(base)->real;
	if (op == SQLITE_FCNTL_SIZE_HINT || op == SQLITE_FCNTL_CHUNK_SIZE) {
		return SQLITE_OK; /* these would change the file beneath */
	}
	if (op == SQLITE_FCNTL_VFSNAME) {
		*(char **)arg = sqlite3_mprintf("drop/%s", below->zName);
		return SQLITE_OK;
	}
	return real->pMethods->xFileControl(real, op, arg);
}

static int file_sector_size(sqlite3_file *base)
{
	sqlite3_file *real = file_of(base)->real;
	return real->pMethods->xSectorSize(real);
}

static int file_characteristics(sqlite3_file *base)
{
	sqlite3_file *real = file_of(base)->real;
	return real->pMethods->xDeviceCharacteristics(real);
}

static int file_shm_map(sqlite3_file *base, int page, int size, int extend, void volatile **out)
{
	sqlite3_file *real = file_of(base)->real;
	return real->pMethods->xShmMap(real, page, size, extend, out);
}

static int file_shm_lock(sqlite3_file *base, int offset, int count, int flags)
{
	sqlite3_file *real = file_of(base)->real;
	return real->pMethods->xShmLock(real, offset, count, flags);
}

static void file_shm_barrier(sqlite3_file *base)
{
	sqlite3_file *real = file_of(base)->real;
	real->pMethods->xShmBarrier(real);
}

static int file_shm_unmap(sqlite3_file *base, int delete_it)
{
	sqlite3_file *real = file_of(base)->real;
	return real->pMethods->xShmUnmap(real, delete_it);
}

/* Version 2: no xFetch, so nothing maps the file beneath. */
static const sqlite3_io_methods file_methods = {
	.iVersion = 2,
	.xClose = file_close,
	.xRead = file_read,
	.xWrite = file_write,
	.xTruncate = file_truncate,
	.xSync = file_sync,
	.xFileSize = file_size,
	.xLock = file_lock,
	.xUnlock = file_unlock,
	.xCheckReservedLock = file_check_reserved,
	.xFileControl = file_control,
	.xSectorSize = file_sector_size,
	.xDeviceCharacteristics = file_characteristics,
	.xShmMap = file_shm_map,
	.xShmLock = file_shm_lock,
	.xShmBarrier = file_shm_barrier,
	.xShmUnmap = file_shm_unmap,
};

/* ---- the VFS ---- */

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *out_flags)
{
	(void)vfs;
	if (!path || !(flags & KEPT)) { /* a temporary file: no process reads it later */
		return below->xOpen(below, path, base, flags, out_flags);
	}
	struct file *file = file_of(base);
	file->base.pMethods = NULL;
	file->real = (sqlite3_file *)(void *)(file + 1);
	int rc = below->xOpen(below, path, file->real, flags, out_flags);
	if (rc != SQLITE_OK) {
		return rc;
	}
	pthread_mutex_lock(&lock);
	file->image = get_image(path, file->real);
	pthread_mutex_unlock(&lock);
	if (!file->image) {
		file->real->pMethods->xClose(file->real);
		return SQLITE_IOERR;
	}
	file->base.pMethods = &file_methods;
	return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync_dir)
{
	(void)vfs;
	pthread_mutex_lock(&lock);
	struct image *image = find_image(path);
	if (image) {
		unlink_image(image);
		if (image->handles == 0) {
			free_image(image);
		}
	}
	pthread_mutex_unlock(&lock);
	return below->xDelete(below, path, sync_dir);
}

/* The VFS beneath takes an empty file for none, which a WAL whose bytes are all unsynced would be. */
static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *out)
{
	(void)vfs;
	pthread_mutex_lock(&lock);
	const struct image *image = flags == SQLITE_ACCESS_EXISTS ? find_image(path) : NULL;
	bool there = image && image->size > 0;
	pthread_mutex_unlock(&lock);
	if (there) {
		*out = 1;
		return SQLITE_OK;
	}
	return below->xAccess(below, path, flags, out);
}

__attribute__((constructor)) static void add_vfs(void)
{
	static sqlite3_vfs vfs;
	if (sqlite3_initialize() != SQLITE_OK || !(below = sqlite3_vfs_find("unix"))) {
		fputs("dropvfs: SQLite has no VFS \"unix\"\n", stderr);
		abort();
	}
	vfs = *below;
	vfs.pNext = NULL;
	vfs.zName = "drop";
	vfs.szOsFile = (int)sizeof(struct file) + below->szOsFile;
	vfs.xOpen = vfs_open;
	vfs.xDelete = vfs_delete;
	vfs.xAccess = vfs_access;
	if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK) {
		fputs("dropvfs: not registered\n", stderr);
		abort();
	}
}
