/* SPDX-License-Identifier: MIT */
/* Writes what STK_AUDIT hooks are told into a file, a JSON object a line. Owns the file and the lines that wait for it; what is
 * worth a line is decided by whoever calls stk_audit(). */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include <startalkd/module.h>

#define FILE_NAME  "audit.log"
#define TEXT_MAX   1024              /* bytes of one text */
#define WAITING_MAX (4 * 1024 * 1024) /* bytes of lines that wait for the disk */
#define AGAIN_AFTER 0.2              /* seconds until lines that found no worker are tried again */
#define LOST_AFTER  30.0             /* seconds until the file is tried again that a worker hangs in: each try may cost a thread */

struct conf {
	const char *path;
	bool sync;
};

static const struct stk_option options[] = {
	{ "path", STK_OPT_PATH, offsetof(struct conf, path), NULL, 0, 3000, "The file; else audit.log in state-dir", NULL },
	{ "sync", STK_OPT_BOOL, offsetof(struct conf, sync), "off", 0, 0, "Have lines on disk, not only with the system, as soon as they are written", NULL },
	{ 0 },
};

struct line {
	struct line *next;
	size_t len;
	char text[];
};

/* What a worker writes. It has all it needs, since it may outlive the module when the disk hangs. */
struct batch {
	char *path;
	int fd;            /* -1: to be opened */
	bool reopen, sync;
	bool torn;         /* the last line is not whole */
	struct line *lines;
	size_t lost;       /* of them */
	int rc;            /* the last fault */
	bool done;         /* the worker has seen it */
};

struct state {
	char *path;
	int fd;
	bool sync, reopen, torn;
	struct batch *writing; /* a worker has it */
	size_t writing_count;  /* lines of it */
	bool failing;  /* ... and the last one could not be written, which was logged */
	struct line *first, **last;
	size_t count, bytes, lost;
	struct stk_timer *again;
	struct stk_metric *written, *dropped;
};

/* ---- the file: on a worker, or in load() and unload() ---- */

/* Appended to, and nobody else's to read. */
static int open_file(const char *path)
{
	struct stat st;
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		int rc = fd < 0 ? -errno : -EINVAL;
		if (fd >= 0) {
			close(fd);
		}
		return rc;
	}
	return fd;
}

static void reopen(struct batch *batch)
{
	int fd = open_file(batch->path);
	batch->reopen = false;
	if (fd < 0) { /* the one there is goes on */
		batch->rc = fd;
		return;
	}
	if (batch->fd >= 0) {
		close(batch->fd);
	}
	batch->fd = fd;
	batch->torn = false;
}

/* A line in one write, so that it is there wholly or, on a full disk, told apart from the next. */
static void write_line(struct batch *batch, const char *text, size_t len)
{
	if (batch->torn && write(batch->fd, "\n", 1) == 1) {
		batch->torn = false;
	}
	ssize_t n = batch->torn ? -1 : write(batch->fd, text, len);
	if (n != (ssize_t)len) {
		batch->rc = n < 0 ? -errno : -ENOSPC;
		batch->torn = batch->torn || n > 0;
		batch->lost++;
	}
}

static void write_batch(struct stk_module *module, void *arg)
{
	struct batch *batch = arg;
	(void)module;
	batch->done = true;
	if (batch->reopen || batch->fd < 0) {
		reopen(batch);
	}
	for (struct line *line = batch->lines; line; line = line->next) {
		if (batch->fd >= 0) {
			write_line(batch, line->text, line->len);
		} else {
			batch->lost++;
		}
	}
	if (batch->sync && batch->fd >= 0 && fdatasync(batch->fd) < 0) {
		batch->rc = -errno;
	}
}

static size_t free_lines(struct line *lines)
{
	size_t count = 0;
	while (lines) {
		struct line *next = lines->next;
		free(lines);
		lines = next;
		count++;
	}
	return count;
}

/* ---- lines ---- */

/* JSON is UTF-8; what a client says of itself need not be. */
static json_t *make_text(const char *text)
{
	char copy[TEXT_MAX + 1];
	size_t len = strlen(text) < TEXT_MAX ? strlen(text) : TEXT_MAX;
	while (len && text[len] && ((unsigned char)text[len] & 0xc0) == 0x80) {
		len--; /* not in the middle of a character */
	}
	json_t *string = json_stringn(text, len);
	for (size_t i = 0; i < len && !string; i++) {
		copy[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
	}
	return string ? string : json_stringn(copy, len);
}

static void set_text(json_t *object, const char *key, const char *text)
{
	if (text) {
		json_object_set_new(object, key, make_text(text));
	}
}

static json_t *new_entry(const char *event)
{
	char date[32], time[48];
	int64_t now = stk_now_ms();
	time_t seconds = (time_t)(now / 1000);
	struct tm tm;
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &tm));
	snprintf(time, sizeof(time), "%s.%03dZ", date, (int)(now % 1000));
	json_t *entry = json_object();
	set_text(entry, "time", time);
	set_text(entry, "event", event);
	return entry;
}

static void start_writing(struct stk_module *module);

/* Takes ENTRY. */
static void add_entry(struct state *state, json_t *entry)
{
	char *text = entry ? json_dumps(entry, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0;
	struct line *line = text && state->bytes + len <= WAITING_MAX ? malloc(sizeof(*line) + len + 1) : NULL;
	if (line) {
		line->next = NULL;
		line->len = len + 1;
		memcpy(line->text, text, len);
		line->text[len] = '\n';
		*state->last = line;
		state->last = &line->next;
		state->count++;
		state->bytes += len + 1;
	} else {
		state->lost++;
		stk_metric_add(state->dropped, 1);
	}
	free(text);
	json_decref(entry);
}

/* Back in front of what has come since. */
static void return_batch(struct state *state, struct batch *batch)
{
	struct line *last = batch->lines;
	state->reopen = state->reopen || batch->reopen;
	for (struct line *line = batch->lines; line; line = line->next) {
		state->bytes += line->len;
		state->count++;
		last = line;
	}
	if (last) {
		last->next = state->first;
		state->last = state->first ? state->last : &last->next;
		state->first = batch->lines;
	}
	free(batch->path);
	free(batch);
}

/* Logged when it begins and when it is over, not for each line. */
static void note_fault(struct stk_module *module, struct state *state, const struct batch *batch, bool any)
{
	if (batch->rc < 0 && !state->failing) {
		stk_log(module, LOG_ERR, "%s: cannot be written: %s; the server goes on, and lines are lost", batch->path, strerror(-batch->rc));
	} else if (batch->rc == 0 && state->failing && any) {
		stk_log(module, LOG_NOTICE, "%s: can be written again", batch->path);
	}
	state->failing = batch->rc < 0 || (state->failing && !any);
}

static void written(struct stk_module *module, int status, void *arg)
{
	struct batch *batch = arg;
	struct state *state = stk_data(module);
	(void)status;
	state->writing = NULL;
	if (!batch->done) { /* the module is about to go; it writes them then */
		return_batch(state, batch);
		return;
	}
	size_t count = free_lines(batch->lines);
	int rc = batch->rc;
	state->lost += batch->lost;
	stk_metric_add(state->dropped, (int64_t)batch->lost);
	stk_metric_add(state->written, (int64_t)(count - batch->lost));
	note_fault(module, state, batch, count > 0);
	state->fd = batch->fd;
	state->torn = batch->torn;
	free(batch->path);
	free(batch);
	if (rc == 0 && state->lost) {
		json_t *entry = new_entry("lost");
		json_object_set_new(entry, "count", json_integer((json_int_t)state->lost));
		state->lost = 0;
		add_entry(state, entry);
	}
	start_writing(module);
}

/* All that waits, for one worker. */
static struct batch *take_batch(struct state *state)
{
	struct batch *batch = calloc(1, sizeof(*batch));
	char *path = strdup(state->path);
	if (!batch || !path) {
		free(batch);
		free(path);
		return NULL;
	}
	*batch = (struct batch){ .path = path, .fd = state->fd, .reopen = state->reopen, .sync = state->sync, .torn = state->torn,
		                 .lines = state->first };
	state->first = NULL;
	state->last = &state->first;
	state->count = 0;
	state->bytes = 0;
	state->reopen = false;
	return batch;
}

static void try_again(struct stk_module *module, void *arg)
{
	struct state *state = stk_data(module);
	(void)arg;
	stk_timer_stop(&state->again);
	start_writing(module);
}

static void start_writing(struct stk_module *module)
{
	struct state *state = stk_data(module);
	size_t count = state->count;
	struct batch *batch = state->writing || state->again || (!state->first && !state->reopen) ? NULL : take_batch(state);
	if (!batch) {
		return;
	}
	if (stk_job(module, 1, write_batch, written, batch) < 0) {
		return_batch(state, batch);
		state->again = stk_timer(module, AGAIN_AFTER, 0, try_again, NULL); /* NULL: unload() writes the rest */
		return;
	}
	state->writing = batch;
	state->writing_count = count;
}

/* The worker that hangs keeps the file and the lines it has; whether they are in it nobody knows. */
static void on_lost(struct stk_module *module, stk_work_fn *work, const void *arg)
{
	struct state *state = stk_data(module);
	(void)work;
	if (state->writing != arg) {
		return;
	}
	stk_log(module, LOG_ERR, "%s: writing hangs: %zu lines count as lost, the file is opened anew in %g s", state->path, state->writing_count,
		LOST_AFTER);
	state->lost += state->writing_count;
	stk_metric_add(state->dropped, (int64_t)state->writing_count);
	state->writing = NULL;
	state->fd = -1;
	state->torn = false;
	state->reopen = true;
	state->again = stk_timer(module, LOST_AFTER, 0, try_again, NULL); /* NULL: the next line begins at once */
}

/* ---- hooks ---- */

static int on_audit(struct stk_module *module, const struct stk_event *event, void *arg)
{
	const struct stk_audit *audit = event->audit;
	json_t *entry = new_entry(audit->event);
	(void)arg;
	set_text(entry, "user", audit->user);
	set_text(entry, "address", audit->address);
	set_text(entry, "by", audit->by);
	if (audit->code) {
		json_object_set_new(entry, "code", json_integer(audit->code));
	}
	set_text(entry, "reason", audit->reason);
	add_entry(stk_data(module), entry);
	start_writing(module);
	return STK_PASS;
}

static int on_reopen(struct stk_module *module, const struct stk_event *event, void *arg)
{
	struct state *state = stk_data(module);
	(void)event;
	(void)arg;
	state->reopen = true;
	stk_timer_stop(&state->again); /* who asks for it has mended something, perhaps */
	start_writing(module);
	return STK_PASS;
}

/* ---- life ---- */

static void unload(struct stk_module *module)
{
	struct state *state = stk_data(module);
	if (!state) {
		return;
	}
	if (state->fd >= 0 && !state->writing) { /* else a worker hangs in it */
		add_entry(state, new_entry("stop"));
		struct batch *batch = take_batch(state);
		if (batch) {
			write_batch(module, batch);
			free_lines(batch->lines);
			state->fd = batch->fd;
			free(batch->path);
			free(batch);
		}
		close(state->fd);
	}
	free_lines(state->first);
	free(state->path);
	free(state);
	stk_set_data(module, NULL);
}

/* Also sees that it can be opened. */
static int make_path(struct stk_module *module, const struct conf *conf, char **path, int *fd)
{
	*path = conf->path ? strdup(conf->path) : NULL;
	if (!*path && (conf->path || asprintf(path, "%s/" FILE_NAME, stk_state_dir(module)) < 0)) {
		*path = NULL;
		return -ENOMEM;
	}
	*fd = stk_planning(module) ? -1 : open_file(*path);
	if (*fd < 0 && !stk_planning(module)) {
		stk_log(module, LOG_ERR, "%s: cannot be opened: %s", *path, *fd == -EINVAL ? "it is no file" : strerror(-*fd));
		free(*path);
		*path = NULL;
		return *fd;
	}
	return 0;
}

static int load(struct stk_module *module, const void *arg)
{
	const struct conf *conf = arg;
	struct state *state = calloc(1, sizeof(*state));
	if (!state) {
		return -ENOMEM;
	}
	state->sync = conf->sync;
	state->fd = -1;
	state->last = &state->first;
	stk_set_data(module, state);
	int rc = make_path(module, conf, &state->path, &state->fd);
	rc = rc < 0 ? rc : stk_on(module, STK_AUDIT, 0, on_audit, NULL);
	rc = rc < 0 ? rc : stk_on(module, STK_REOPEN, 0, on_reopen, NULL);
	rc = rc < 0 ? rc : stk_job_lost(module, on_lost);
	if (rc == 0) {
		state->written = stk_metric(module, "lines", "Lines that were written.");
		state->dropped = stk_metric(module, "lost", "Lines that could not be written, for a full disk for instance.");
		rc = state->written && state->dropped ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		state->fd = state->fd >= 0 ? (close(state->fd), -1) : -1;
		unload(module);
		return rc;
	}
	if (!stk_planning(module)) {
		add_entry(state, new_entry("start"));
		state->again = stk_timer(module, 0, 0, try_again, NULL);
	}
	return 0;
}

static int reload(struct stk_module *module, const void *arg)
{
	struct state *state = stk_data(module);
	const struct conf *conf = arg;
	char *path = NULL;
	int fd = -1, rc = make_path(module, conf, &path, &fd);
	if (rc < 0) {
		return rc;
	}
	close(fd); /* a worker may have the old one just now, so the next batch opens it */
	free(state->path);
	state->path = path;
	state->sync = conf->sync;
	state->reopen = true;
	start_writing(module);
	return 0;
}

STK_MODULE(.name = "audit", .version = "0.1", .options = options, .conf_size = sizeof(struct conf), .load = load, .reload = reload,
           .unload = unload);
