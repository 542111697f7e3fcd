/* SPDX-License-Identifier: MIT */
/* The command backup: one file with consistent copies of all databases and keys of the state directory, made while the server
 * runs, on a thread of its own. Owns the file's format, see admin.md; putting one back is startalkctl's business. */

#include "backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <jansson.h>
#include <sqlite3.h>

#define FORMAT       1
#define MANIFEST     "manifest.json"
#define BLOCK        512
#define PATH_BYTES   4096
#define NAME_BYTES   100         /* of a file in the archive */
#define STEP_PAGES   128
#define PAUSE_MAX_MS 20          /* behind each step, so that others get at the disk */
#define CHECK_OPS    100000      /* SQLite's instructions between looks whether to stop */
#define KEY_MAX      1048576     /* bytes of a file that is no database */
#define LOOK_MS      50          /* between two looks whether the caller is still there */
#define TELL_MS      1000        /* between two lines of progress */
#define SHA_BYTES    32

struct backup {
	struct stk_module *module;
	struct stk_answer *answer; /* router thread; NULL: nobody is told any more */
	int64_t told;              /* router thread */
	pthread_t thread;
	_Atomic bool cancelled;
	char state_dir[PATH_BYTES], path[PATH_BYTES], part[PATH_BYTES + 8], copy[PATH_BYTES + 16];
	char version[64];
	/* the thread's */
	int out, rc;
	int64_t started, looked;
	uint64_t bytes;
	json_t *files; /* of the manifest */
	char error[PATH_BYTES + 512];
	/* what is told next */
	pthread_mutex_t lock;
	char progress[256];
};

/* ---- faults ---- */

static int fail(struct backup *backup, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The first fault is the one that counts. Returns RC. */
static int fail(struct backup *backup, int rc, const char *fmt, ...)
{
	va_list args;
	if (!*backup->error) {
		va_start(args, fmt);
		vsnprintf(backup->error, sizeof(backup->error), fmt, args);
		va_end(args);
	}
	return rc;
}

static int fail_out(struct backup *backup, int rc)
{
	const char *hint = rc == -ENOSPC || rc == -EDQUOT ? "; nothing is left of this backup" :
	                   rc == -EACCES || rc == -EPERM || rc == -EROFS ?
	                   "; the server writes it, as its own user and where its service lets it: choose a folder of that user" : "";
	return fail(backup, rc, "%s: cannot be written: %s%s", backup->path, strerror(-rc), hint);
}

static int fail_db(struct backup *backup, struct sqlite3 *db, const char *what)
{
	int code = db ? sqlite3_errcode(db) & 0xff : SQLITE_NOMEM, rc = db ? -sqlite3_system_errno(db) : -ENOMEM;
	if (code == SQLITE_FULL) {
		return fail_out(backup, -ENOSPC);
	}
	return fail(backup, rc < 0 ? rc : -EIO, "%s: %s", what, db ? sqlite3_errmsg(db) : "out of memory");
}

static int check_cancelled(struct backup *backup)
{
	return atomic_load(&backup->cancelled) ? fail(backup, -ECANCELED, "given up before its end") : 0;
}

/* ---- progress ---- */

static void tell(struct backup *backup)
{
	char text[sizeof(backup->progress)];
	pthread_mutex_lock(&backup->lock);
	memcpy(text, backup->progress, sizeof(text));
	pthread_mutex_unlock(&backup->lock);
	json_t *line = json_pack("{s:s}", "text", text);
	char *json = line ? json_dumps(line, JSON_COMPACT) : NULL;
	if (json) {
		(void)answer_line(backup->answer, json); /* a slow reader misses one */
	}
	free(json);
	json_decref(line);
}

static void look_after_caller(struct stk_module *module, void *arg)
{
	struct backup *backup = arg;
	int64_t now = stk_now_ms();
	(void)module;
	if (!backup->answer) {
		return;
	}
	if (answer_is_gone(backup->answer)) {
		atomic_store(&backup->cancelled, true);
	} else if (now - backup->told >= TELL_MS) {
		backup->told = now;
		tell(backup);
	}
}

static void show(struct backup *backup)
{
	int64_t now = stk_now_ms();
	if (now - backup->looked >= LOOK_MS) {
		backup->looked = now;
		(void)stk_post(backup->module, look_after_caller, backup);
	}
}

static void show_progress(struct backup *backup, const char *name, const char *what, uint64_t done, uint64_t all)
{
	pthread_mutex_lock(&backup->lock);
	snprintf(backup->progress, sizeof(backup->progress), "%s: %s: %d %%", name, what, all ? (int)(100 * done / all) : 100);
	pthread_mutex_unlock(&backup->lock);
	show(backup);
}

/* ---- the archive ---- */

static int put(struct backup *backup, const void *data, size_t len)
{
	const char *at = data;
	while (len) {
		ssize_t n = write(backup->out, at, len);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return fail_out(backup, -errno);
		}
		at += n;
		len -= (size_t)n;
		backup->bytes += (uint64_t)n;
	}
	return 0;
}

static int put_padding(struct backup *backup, uint64_t size)
{
	static const char zeros[BLOCK];
	return put(backup, zeros, (size_t)((BLOCK - size % BLOCK) % BLOCK));
}

/* Above 8 GiB, which is what 11 octal digits hold, the number is binary, as tar(1) reads it too. */
static void print_size(char field[12], uint64_t size)
{
	if (size < (uint64_t)1 << 33) {
		snprintf(field, 12, "%011llo", (unsigned long long)size);
		return;
	}
	field[0] = (char)0x80;
	for (int i = 11; i > 0; i--, size >>= 8) {
		field[i] = (char)(size & 0xff);
	}
}

static int put_header(struct backup *backup, const char *name, uint64_t size)
{
	char block[BLOCK] = { 0 };
	unsigned sum = 0;
	snprintf(block, NAME_BYTES, "%s", name);
	memcpy(block + 100, "0000600\0000000000\0000000000", 24);
	print_size(block + 124, size);
	snprintf(block + 136, 12, "%011llo", (unsigned long long)(backup->started / 1000));
	memset(block + 148, ' ', 8);
	block[156] = '0';
	memcpy(block + 257, "ustar\00000", 8);
	for (size_t i = 0; i < BLOCK; i++) {
		sum += (unsigned char)block[i];
	}
	snprintf(block + 148, 8, "%06o", sum);
	return put(backup, block, BLOCK);
}

static void print_hex(const uint8_t digest[SHA_BYTES], char hex[2 * SHA_BYTES + 1])
{
	for (size_t i = 0; i < SHA_BYTES; i++) {
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	}
}

/* SIZE bytes of FD, named NAME in the archive. ENTRY is what the manifest says of it. */
static int put_bytes(struct backup *backup, const char *name, int fd, uint64_t size, json_t *entry)
{
	uint8_t digest[SHA_BYTES];
	char hex[2 * SHA_BYTES + 1];
	const size_t room = 1 << 18;
	char *data = malloc(room);
	gnutls_hash_hd_t hash;
	uint64_t left = size;
	if (!data || gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) < 0) {
		free(data);
		return fail(backup, -ENOMEM, "out of memory");
	}
	int rc = put_header(backup, name, size);
	while (rc == 0 && left) {
		ssize_t n = read(fd, data, left < room ? (size_t)left : room);
		rc = n > 0 ? check_cancelled(backup) : fail(backup, n < 0 ? -errno : -EIO, "%s: cannot be read: %s", name,
		                                           n < 0 ? strerror(errno) : "it has become shorter");
		if (rc == 0) {
			gnutls_hash(hash, data, (size_t)n);
			rc = put(backup, data, (size_t)n);
			left -= (uint64_t)n;
			show_progress(backup, name, "written", size - left, size);
		}
	}
	gnutls_hash_deinit(hash, digest);
	gnutls_memset(data, 0, room); /* it may have been a key */
	free(data);
	print_hex(digest, hex);
	json_object_set_new(entry, "name", json_string(name));
	json_object_set_new(entry, "size", json_integer((json_int_t)size));
	json_object_set_new(entry, "sha256", json_string(hex));
	json_array_append(backup->files, entry);
	return rc < 0 ? rc : put_padding(backup, size);
}

static int put_file(struct backup *backup, const char *name, const char *path, json_t *entry)
{
	struct stat st = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int rc = fd < 0 || fstat(fd, &st) < 0 ? fail(backup, -errno, "%s: cannot be read: %s", path, strerror(errno)) : 0;
	rc = rc < 0 ? rc : put_bytes(backup, name, fd, (uint64_t)st.st_size, entry);
	if (fd >= 0) {
		close(fd);
	}
	return rc;
}

static int put_manifest(struct backup *backup)
{
	json_t *root = json_pack("{s:i,s:s,s:s,s:I,s:O}", "format", FORMAT, "program", "startalkd", "version", backup->version, "made",
	                         (json_int_t)backup->started, "files", backup->files);
	char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
	json_decref(root);
	if (!text) {
		return fail(backup, -ENOMEM, "out of memory");
	}
	static const char zeros[2 * BLOCK];
	size_t len = strlen(text);
	int rc = put_header(backup, MANIFEST, len);
	rc = rc < 0 ? rc : put(backup, text, len);
	rc = rc < 0 ? rc : put_padding(backup, len);
	free(text);
	return rc < 0 ? rc : put(backup, zeros, sizeof(zeros));
}

/* ---- databases ---- */

static void pause_after(int64_t since)
{
	int64_t took = stk_now_ms() - since;
	const struct timespec pause = { .tv_nsec = (took < PAUSE_MAX_MS ? took : PAUSE_MAX_MS) * 1000000 };
	nanosleep(&pause, NULL);
}

/* The transaction that is open on SOURCE holds one state for all steps; without it each write of the server would make the copy
 * begin anew. Nobody waits for a reader in WAL mode; the log grows until the copy is there. */
static int copy_pages(struct backup *backup, const char *name, struct sqlite3 *source, struct sqlite3 *copy)
{
	if (sqlite3_exec(source, "BEGIN; SELECT count(*) FROM sqlite_master", NULL, NULL, NULL) != SQLITE_OK) {
		return fail_db(backup, source, name);
	}
	sqlite3_backup *pages = sqlite3_backup_init(copy, "main", source, "main");
	int step = pages ? SQLITE_OK : SQLITE_ERROR, rc = pages ? 0 : fail_db(backup, copy, name);
	while (rc == 0 && step != SQLITE_DONE) {
		int64_t since = stk_now_ms();
		step = sqlite3_backup_step(pages, STEP_PAGES);
		uint64_t all = (uint64_t)sqlite3_backup_pagecount(pages), left = (uint64_t)sqlite3_backup_remaining(pages);
		show_progress(backup, name, "copied", all - left, all);
		bool good = step == SQLITE_OK || step == SQLITE_DONE;
		rc = good ? check_cancelled(backup) : 0;
		if (!good) {
			break;
		}
		pause_after(since);
	}
	if (pages && sqlite3_backup_finish(pages) != SQLITE_OK && rc == 0) {
		rc = fail_db(backup, copy, name); /* the error of a step is that of the copy from here on */
	}
	sqlite3_exec(source, "COMMIT", NULL, NULL, NULL);
	return rc;
}

static int is_cancelled(void *arg)
{
	struct backup *backup = arg;
	show(backup);
	return atomic_load(&backup->cancelled);
}

static int check_copy(struct backup *backup, const char *name, struct sqlite3 *copy)
{
	sqlite3_stmt *stmt = NULL;
	sqlite3_progress_handler(copy, CHECK_OPS, is_cancelled, backup);
	int step = sqlite3_prepare_v2(copy, "PRAGMA integrity_check(1)", -1, &stmt, NULL);
	step = step == SQLITE_OK ? sqlite3_step(stmt) : step;
	const char *text = step == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
	int rc = text && strcmp(text, "ok") == 0 ? 0 : check_cancelled(backup);
	if (rc == 0 && !(text && strcmp(text, "ok") == 0)) {
		rc = fail(backup, -EIO, "%s: the database is damaged: %s; put the latest good backup in its place", name,
		          text ? text : sqlite3_errmsg(copy));
	}
	sqlite3_finalize(stmt);
	sqlite3_progress_handler(copy, 0, NULL, NULL);
	return rc;
}

/* Which versions the modules' tables have, as core/db.c notes them. A database that has none is nobody's of ours. */
static json_t *read_schemas(struct sqlite3 *copy)
{
	sqlite3_stmt *stmt = NULL;
	json_t *schemas = json_object();
	if (sqlite3_prepare_v2(copy, "SELECT module, version FROM schema_version", -1, &stmt, NULL) == SQLITE_OK) {
		while (sqlite3_step(stmt) == SQLITE_ROW) {
			json_object_set_new(schemas, (const char *)sqlite3_column_text(stmt, 0),
			                    json_integer(sqlite3_column_int(stmt, 1)));
		}
	}
	sqlite3_finalize(stmt);
	return schemas;
}

/* The copy is one file: no log, no journal. */
static int make_copy(struct backup *backup, const char *name, const char *path, json_t *entry)
{
	struct sqlite3 *source = NULL, *copy = NULL;
	int fd = open(backup->copy, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return fail_out(backup, -errno);
	}
	close(fd);
	int rc = sqlite3_open_v2(path, &source, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK ? 0 :
	         fail_db(backup, source, name);
	if (rc == 0 && (sqlite3_open_v2(backup->copy, &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK ||
	                sqlite3_exec(copy, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", NULL, NULL, NULL) != SQLITE_OK)) {
		rc = fail_db(backup, copy, name);
	}
	rc = rc < 0 ? rc : copy_pages(backup, name, source, copy);
	if (rc == 0 && sqlite3_exec(copy, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL) != SQLITE_OK) {
		rc = fail_db(backup, copy, name);
	}
	rc = rc < 0 ? rc : check_copy(backup, name, copy);
	if (rc == 0) {
		json_object_set_new(entry, "schemas", read_schemas(copy));
	}
	sqlite3_close(source);
	sqlite3_close(copy);
	return rc;
}

static void drop_copy(const struct backup *backup)
{
	static const char *const ends[] = { "", "-wal", "-shm", "-journal" };
	char path[sizeof(backup->copy) + 16];
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
		snprintf(path, sizeof(path), "%s%s", backup->copy, ends[i]);
		unlink(path);
	}
}

static int put_database(struct backup *backup, const char *name, const char *path)
{
	json_t *entry = json_pack("{s:s}", "kind", "database");
	int rc = entry ? make_copy(backup, name, path, entry) : fail(backup, -ENOMEM, "out of memory");
	rc = rc < 0 ? rc : put_file(backup, name, backup->copy, entry);
	drop_copy(backup);
	json_decref(entry);
	return rc;
}

/* ---- the state directory ---- */

enum kind { KIND_NONE, KIND_DATABASE, KIND_KEY };

static bool ends_with(const char *name, const char *end)
{
	size_t len = strlen(name), n = strlen(end);
	return len > n && strcmp(name + len - n, end) == 0;
}

/* Databases are known by how they begin, so those of modules that are disabled just now are there, too. */
static enum kind kind_of(const char *name, const char *path)
{
	static const char *const keys[] = { ".key", ".pub", ".crt", ".pem" };
	char magic[16] = { 0 };
	struct stat st;
	int fd = strstr(name, ".before-") || strstr(name, ".tmp") || name[0] == '.' || strlen(name) >= NAME_BYTES ? -1 :
	         open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) {
		return KIND_NONE;
	}
	bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	bool database = regular && pread(fd, magic, sizeof(magic), 0) == sizeof(magic) && memcmp(magic, "SQLite format 3", 16) == 0;
	close(fd);
	enum kind kind = database ? KIND_DATABASE : KIND_NONE;
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys) && regular && !database && st.st_size <= KEY_MAX; i++) {
		kind = ends_with(name, keys[i]) ? KIND_KEY : kind;
	}
	return kind;
}

static int put_one(struct backup *backup, const char *name)
{
	char path[2 * PATH_BYTES];
	snprintf(path, sizeof(path), "%s/%s", backup->state_dir, name);
	enum kind kind = kind_of(name, path);
	if (kind == KIND_DATABASE) {
		return put_database(backup, name, path);
	}
	if (kind == KIND_NONE) {
		return 0;
	}
	json_t *entry = json_pack("{s:s}", "kind", "file");
	int rc = entry ? put_file(backup, name, path, entry) : fail(backup, -ENOMEM, "out of memory");
	json_decref(entry);
	return rc;
}

static int put_all(struct backup *backup)
{
	struct dirent **names;
	int count = scandir(backup->state_dir, &names, NULL, alphasort), rc = 0;
	if (count < 0) {
		return fail(backup, -errno, "%s: cannot be read: %s", backup->state_dir, strerror(errno));
	}
	for (int i = 0; i < count; i++) {
		rc = rc < 0 ? rc : put_one(backup, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return rc < 0 ? rc : put_manifest(backup);
}

/* ---- the file ---- */

static int sync_folder(const char *path)
{
	char folder[PATH_BYTES];
	snprintf(folder, sizeof(folder), "%s", path);
	char *slash = strrchr(folder, '/');
	slash[slash == folder] = '\0';
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
	if (fd >= 0) {
		close(fd);
	}
	return rc;
}

/* File systems without a rename that replaces nothing have links. */
static int publish(struct backup *backup)
{
	int rc = renameat2(AT_FDCWD, backup->part, AT_FDCWD, backup->path, RENAME_NOREPLACE) < 0 ? -errno : 0;
	if (rc == -EINVAL || rc == -ENOSYS) {
		rc = link(backup->part, backup->path) < 0 ? -errno : 0;
		unlink(backup->part);
	}
	rc = rc < 0 ? rc : sync_folder(backup->path);
	return rc == -EEXIST ? fail(backup, rc, "%s: is there already", backup->path) : rc < 0 ? fail_out(backup, rc) : 0;
}

static int write_file(struct backup *backup)
{
	unlink(backup->part); /* an earlier server may have been killed over one */
	drop_copy(backup);
	backup->out = open(backup->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (backup->out < 0) {
		return fail_out(backup, -errno);
	}
	int rc = put_all(backup);
	if (rc == 0 && fsync(backup->out) < 0) {
		rc = fail_out(backup, -errno);
	}
	if (close(backup->out) < 0 && rc == 0) {
		rc = fail_out(backup, -errno);
	}
	rc = rc < 0 ? rc : check_cancelled(backup);
	rc = rc < 0 ? rc : publish(backup);
	if (rc < 0) {
		unlink(backup->part);
	}
	return rc;
}

static void free_backup(struct backup *backup)
{
	pthread_mutex_destroy(&backup->lock);
	json_decref(backup->files);
	free(backup);
}

static void end_backup(struct stk_module *module, void *arg)
{
	struct backup *backup = arg;
	struct state *state = stk_data(module);
	double seconds = (double)(stk_now_ms() - backup->started) / 1000;
	pthread_join(backup->thread, NULL);
	state->backup = NULL;
	if (backup->rc < 0) {
		stk_log(module, LOG_ERR, "backup: %s", backup->error);
		answer_end(backup->answer, backup->error);
	} else {
		stk_log(module, LOG_NOTICE, "backup: %s: %llu bytes, %.1f s", backup->path, (unsigned long long)backup->bytes, seconds);
		json_t *line = json_pack("{s:s,s:I,s:f,s:o}", "file", backup->path, "bytes", (json_int_t)backup->bytes, "seconds", seconds, "text",
		                         json_sprintf("%s: %llu bytes, %zu files, checked", backup->path,
		                                      (unsigned long long)backup->bytes, json_array_size(backup->files)));
		char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
		if (text) {
			(void)answer_line(backup->answer, text);
		}
		free(text);
		json_decref(line);
		answer_end(backup->answer, NULL);
	}
	free_backup(backup);
}

static void *run_thread(void *arg)
{
	struct backup *backup = arg;
	setpriority(PRIO_PROCESS, (id_t)gettid(), 10); /* of this thread */
	backup->rc = write_file(backup);
	(void)stk_post(backup->module, end_backup, backup); /* else the module is going away, which ends it as well */
	return NULL;
}

/* ---- the command ---- */

static int start_thread(struct backup *backup)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&backup->thread, NULL, run_thread, backup);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -rc;
}

static const char *check_path(const char *path)
{
	struct stat st;
	size_t len = path ? strlen(path) : 0;
	return !len                        ? "which file? backup FILE" :
	       path[0] != '/'              ? "the file's path has to begin with /" :
	       len > PATH_BYTES - 64       ? "the path is too long" :
	       path[len - 1] == '/'        ? "the path is that of a folder, a file is wanted" :
	       lstat(path, &st) == 0       ? "the file is there already; a backup replaces nothing" : NULL;
}

static void begin(struct stk_module *module, const char *path, struct stk_answer *answer)
{
	struct state *state = stk_data(module);
	struct stk_status status = { .size = sizeof(status) };
	struct backup *backup = calloc(1, sizeof(*backup));
	if (!backup || !(backup->files = json_array())) {
		free(backup);
		answer_end(answer, "out of memory");
		return;
	}
	pthread_mutex_init(&backup->lock, NULL);
	backup->module = module;
	backup->answer = answer;
	backup->started = backup->looked = backup->told = stk_now_ms();
	stk_status(module, &status);
	snprintf(backup->version, sizeof(backup->version), "%s", status.version);
	snprintf(backup->state_dir, sizeof(backup->state_dir), "%s", stk_state_dir(module));
	snprintf(backup->path, sizeof(backup->path), "%s", path);
	snprintf(backup->part, sizeof(backup->part), "%s.tmp", path);
	snprintf(backup->copy, sizeof(backup->copy), "%s.tmp-db", path);
	int rc = start_thread(backup);
	if (rc < 0) {
		answer_fail(answer, "no thread for it: %s", strerror(-rc));
		free_backup(backup);
		return;
	}
	state->backup = backup;
}

void backup_run(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	const struct state *state = stk_data(module);
	json_t *root = json_loads(args, JSON_REJECT_DUPLICATES, NULL);
	const char *path = json_string_value(json_object_get(root, "file"));
	const char *wrong = !root ? "out of memory" : state->backup ? "another backup is under way" : check_path(path);
	if (wrong) {
		answer_fail(answer, "%s%s%s", path && root ? path : "", path && root ? ": " : "", wrong);
	} else {
		begin(module, path, answer);
	}
	json_decref(root);
}

void backup_drop(struct stk_module *module)
{
	struct state *state = stk_data(module);
	struct backup *backup = state->backup;
	if (!backup) {
		return;
	}
	state->backup = NULL;
	atomic_store(&backup->cancelled, true);
	pthread_join(backup->thread, NULL);
	answer_end(backup->answer, backup->rc < 0 ? "the backup was given up: the module admin is going away" : NULL);
	free_backup(backup);
}
