/* SPDX-License-Identifier: MIT */
/* Fuzz target: what comes over the admin socket of a real server: several lines, in pieces, half-closed, closed at any time, on two
 * connections; the commands behind it are the modules' own. Each answer must be lines of JSON, the last of a request with "ok",
 * in the order of the requests and as many; nothing of a connection may be left. Byte 0 of the input says how it is sent. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#include "core/buf.h"
#include "tests/fuzz/host.h"

#define ROUNDS    1000 /* inputs of one server */
#define REQUESTS  24   /* of one input */
#define SIZE_MOST 65536
#define WAITS     20000 /* ms for the last answer */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char modules[] = "[auth_sqlite]\nplain-without-tls = on\npoll-interval = 1500ms\n[bind]\n[presence]\n[archive]\n[message]\n"
			      "[ping]\n[admin]\n[audit]\n";

static struct server *server;
static unsigned backups;

/* ---- what is said ---- */

/* A file that a request names is one in the server's folder: no byte of the input is a slash, but what stands for the folder is '@@'. */
static struct buf make_text(const uint8_t *data, size_t size)
{
	struct buf text = { 0 };
	char path[128];
	unsigned made = 0;
	int rc = 0;
	for (size_t i = 0; i < size && rc == 0; i++) {
		if (data[i] == '@' && i + 1 < size && made < REQUESTS && data[i + 1] == '@') {
			int len = snprintf(path, sizeof(path), "%s/b%u", host_folder(), backups++);
			made++;
			rc = buf_append(&text, path, (size_t)len);
			i++;
		} else {
			bool escaped = data[i] == 'u' && i && data[i - 1] == '\\'; /* it could be one */
			uint8_t byte = data[i] == '/' ? '.' : escaped ? 'n' : data[i];
			rc = buf_append(&text, &byte, 1);
		}
	}
	assert(rc == 0);
	return text;
}

static void remove_backups(void)
{
	char path[128];
	for (unsigned i = backups > REQUESTS ? backups - REQUESTS : 0; i < backups; i++) {
		snprintf(path, sizeof(path), "%s/b%u", host_folder(), i);
		unlink(path);
	}
}

static int dial(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/state/admin.sock", host_folder());
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = connect(fd, (const struct sockaddr *)&address, sizeof(address));
	assert(fd >= 0 && rc == 0);
	return fd;
}

/* ---- what is answered ---- */

struct reader {
	struct buf in;
	size_t ends; /* lines that end an answer */
	bool over;
};

static void check_lines(struct reader *reader)
{
	const uint8_t *end;
	while (reader->in.len && (end = memchr(buf_data(&reader->in), '\n', reader->in.len))) {
		size_t len = (size_t)(end - buf_data(&reader->in));
		json_error_t error;
		json_t *line = json_loadb((const char *)buf_data(&reader->in), len, JSON_REJECT_DUPLICATES, &error);
		assert(json_is_object(line));
		const json_t *ok = json_object_get(line, "ok");
		assert(!ok || json_is_boolean(ok));
		assert(!json_is_false(ok) || json_is_string(json_object_get(line, "error")));
		reader->ends += ok != NULL;
		json_decref(line);
		buf_consume(&reader->in, len + 1);
	}
}

static void read_all(int fd, struct reader *reader)
{
	static uint8_t room[65536];
	ssize_t n;
	do {
		host_settle();
		n = recv(fd, room, sizeof(room), MSG_DONTWAIT);
		if (n > 0) {
			int rc = buf_append(&reader->in, room, (size_t)n);
			assert(rc == 0);
			check_lines(reader);
		}
	} while (n > 0);
	reader->over |= n == 0;
}

/* How many requests there are: lines that are not empty, the last one also without its end. */
static size_t count_requests(const struct buf *text)
{
	size_t count = 0, len = 0;
	for (size_t i = 0; i < text->len; i++) {
		len = buf_data(text)[i] == '\n' ? 0 : len + 1;
		count += len == 1;
	}
	return count;
}

/* ---- one connection ---- */

static void say(int fd, const struct buf *text, size_t step, struct reader *reader)
{
	for (size_t at = 0; at < text->len && !reader->over; at += step) {
		size_t n = text->len - at < step ? text->len - at : step;
		ssize_t sent = send(fd, buf_data(text) + at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 || (size_t)sent < n) {
			break;
		}
		read_all(fd, reader);
	}
}

/* All is said and nothing more will be: every request has its answer, and then the connection ends. A backup has a thread of its own,
 * which takes real time. */
static void expect_end(int fd, size_t requests, struct reader *reader)
{
	shutdown(fd, SHUT_WR);
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	read_all(fd, reader);
	for (int i = 0; i < WAITS && !reader->over; i++) {
		host_pass(0.1);
		read_all(fd, reader);
		(void)poll(&wait, reader->over ? 0 : 1, 1);
	}
	assert(reader->over && !reader->in.len && reader->ends == requests);
}

static void talk(unsigned how, const struct buf *text)
{
	static const size_t steps[] = { SIZE_MOST, 1, 7, 100 };
	struct reader reader = { 0 };
	int fd = dial(), other = how & 4 ? dial() : -1;
	size_t step = steps[how & 3];
	step = text->len / step > 200 ? text->len / 200 + 1 : step;
	host_settle();
	say(fd, text, step, &reader);
	if (how & 8) {
		close(fd); /* in the middle of answers */
	} else {
		expect_end(fd, count_requests(text), &reader);
		close(fd);
	}
	buf_fini(&reader.in);
	if (other >= 0) {
		static const char status[] = "{\"command\":\"status\"}\n";
		struct buf line = { 0 };
		reader = (struct reader){ 0 };
		int rc = buf_append(&line, status, sizeof(status) - 1);
		assert(rc == 0);
		say(other, &line, SIZE_MOST, &reader);
		expect_end(other, 1, &reader);
		close(other);
		buf_fini(&line);
		buf_fini(&reader.in);
	}
	host_settle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size || size > SIZE_MOST) {
		return 0;
	}
	/* Commands stop and restart send these to the process. */
	void (*term)(int) = signal(SIGTERM, SIG_IGN), (*again)(int) = signal(SIGUSR2, SIG_IGN);
	server = host_enter(modules, ROUNDS);
	struct buf text = make_text(data + 1, size - 1);
	if (count_requests(&text) <= REQUESTS) {
		talk(data[0], &text);
	}
	buf_fini(&text);
	remove_backups();
	host_pass(1);
	assert(!server->sessions.by_id && !server->asks);
	host_leave();
	signal(SIGTERM, term);
	signal(SIGUSR2, again);
	return 0;
}
