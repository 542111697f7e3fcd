/* SPDX-License-Identifier: MIT */
/* The admin socket: who may connect, lines in and lines out. Owns connections and answers with their bounds; what a
 * line means is decided elsewhere. */

#include "admin.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <jansson.h>

#define CONNECTIONS_MAX 16
#define LINE_BYTES_MAX (1024 * 1024)
#define TOO_LONG "a request may have 1 MiB"
#define READ_BYTES 16384
#define OUT_HIGH (256 * 1024) /* bytes that wait for a reader before answers are told to wait too */
#define OUT_LOW (64 * 1024)

/* Bytes from AT on. Passwords go through, so nothing is freed unwiped. */
struct bytes {
	char *data;
	size_t at, end, cap;
};

struct connection {
	struct connection *next, **prev;
	struct socket *socket;
	struct stk_watch *watch;
	struct stk_answer *answer; /* to the request that is being dealt with, or NULL */
	struct bytes in, out;
	size_t scanned; /* bytes of in without a line end */
	int fd;
	bool eof, closing;
	int64_t active_at; /* ms: when bytes came or went last */
	struct ucred peer;
};

struct stk_answer {
	struct stk_answer *next, **prev;
	struct connection *connection; /* NULL: the reader is gone */
	void (*ready)(struct stk_answer *answer, void *arg);
	void *arg;
};

struct socket {
	struct stk_module *module;
	request_fn *request;
	struct sockaddr_un address;
	int fd;
	double idle;
	struct stk_watch *watch;
	struct stk_timer *timer;
	struct connection *connections;
	size_t count;
};

/* All that have not ended. One that a command is still working on outlives the connection, and the module when it is
 * loaded anew. */
static struct stk_answer *answers;

/* ---- bytes ---- */

static size_t bytes_len(const struct bytes *bytes)
{
	return bytes->end - bytes->at;
}

static void bytes_free(struct bytes *bytes)
{
	if (bytes->data) {
		explicit_bzero(bytes->data, bytes->cap);
	}
	free(bytes->data);
	*bytes = (struct bytes){ 0 };
}

/* Room for SIZE more behind the end. */
static int bytes_reserve(struct bytes *bytes, size_t size)
{
	size_t len = bytes_len(bytes);
	if (bytes->cap - bytes->end >= size) {
		return 0;
	}
	if (bytes->cap - len >= size && bytes->at >= len) {
		memcpy(bytes->data, bytes->data + bytes->at, len);
		explicit_bzero(bytes->data + bytes->at, len);
	} else {
		size_t cap = 2 * len + size < READ_BYTES ? READ_BYTES : 2 * len + size;
		char *data = malloc(cap);
		if (!data) {
			return -ENOMEM;
		}
		if (len) {
			memcpy(data, bytes->data + bytes->at, len);
		}
		bytes_free(bytes);
		bytes->data = data;
		bytes->cap = cap;
	}
	bytes->at = 0;
	bytes->end = len;
	return 0;
}

static int bytes_append(struct bytes *bytes, const char *text, size_t len)
{
	int rc = bytes_reserve(bytes, len);
	if (rc == 0) {
		memcpy(bytes->data + bytes->end, text, len);
		bytes->end += len;
	}
	return rc;
}

static void bytes_consume(struct bytes *bytes, size_t len)
{
	explicit_bzero(bytes->data + bytes->at, len);
	bytes->at += len;
	if (bytes->at == bytes->end) {
		bytes->at = bytes->end = 0;
	}
}

/* ---- connections ---- */

/* The end of the next line, or NULL. What is left when the client has said all counts as one. */
static const char *find_line(struct connection *connection)
{
	struct bytes *in = &connection->in;
	size_t len = bytes_len(in);
	const char *start = in->data ? in->data + in->at : NULL;
	const char *end =
		start && len > connection->scanned ? memchr(start + connection->scanned, '\n', len - connection->scanned) : NULL;
	if (end || (connection->eof && len)) {
		return end ? end : start + len;
	}
	connection->scanned = len;
	return NULL;
}

static void update_watch(struct connection *connection)
{
	bool busy = connection->answer != NULL, more = !busy && !connection->closing && find_line(connection);
	bool read = !busy && !more && !connection->eof && !connection->closing;
	bool done = (connection->eof && !busy) || connection->closing;
	bool write = bytes_len(&connection->out) || more || done || (busy && connection->answer->ready);
	stk_watch_set(connection->watch, (read ? STK_READ : 0) | (write ? STK_WRITE : 0));
}

static void flush(struct connection *connection)
{
	struct bytes *out = &connection->out;
	while (bytes_len(out)) {
		ssize_t n = send(connection->fd, out->data + out->at, bytes_len(out), MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			connection->closing = connection->eof = true;
			bytes_free(out);
			return;
		}
		if (n <= 0) {
			return;
		}
		bytes_consume(out, (size_t)n);
		connection->active_at = stk_now_ms();
	}
}

static void call_ready(struct stk_answer *answer)
{
	void (*ready)(struct stk_answer *, void *) = answer->ready;
	answer->ready = NULL;
	ready(answer, answer->arg);
}

static void free_connection(struct connection *connection)
{
	*connection->prev = connection->next;
	if (connection->next) {
		connection->next->prev = connection->prev;
	}
	connection->socket->count--;
	stk_watch_stop(&connection->watch);
	close(connection->fd);
	bytes_free(&connection->in);
	bytes_free(&connection->out);
	struct stk_answer *answer = connection->answer;
	free(connection);
	if (answer) {
		answer->connection = NULL;
		if (answer->ready) {
			call_ready(answer);
		}
	}
}

/* Ends with an answer that belongs to no request. */
static void reject(struct connection *connection, const char *why)
{
	char line[256];
	int len = snprintf(line, sizeof(line), "{\"ok\":false,\"error\":\"%s\"}\n", why);
	(void)bytes_append(&connection->out, line, (size_t)len);
	connection->closing = true;
}

static void receive(struct connection *connection)
{
	struct bytes *in = &connection->in;
	if (bytes_reserve(in, READ_BYTES) < 0) {
		reject(connection, "out of memory");
		return;
	}
	ssize_t n = recv(connection->fd, in->data + in->end, READ_BYTES - 1, 0); /* a NUL may come behind */
	if (n > 0) {
		in->end += (size_t)n;
		connection->active_at = stk_now_ms();
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		connection->eof = true;
	}
	if (bytes_len(in) > LINE_BYTES_MAX && !find_line(connection)) {
		reject(connection, TOO_LONG);
	}
}

static struct stk_answer *new_answer(struct connection *connection)
{
	struct stk_answer *answer = calloc(1, sizeof(*answer));
	if (!answer) {
		return NULL;
	}
	*answer = (struct stk_answer){ .next = answers, .prev = &answers, .connection = connection };
	if (answers) {
		answers->prev = &answer->next;
	}
	answers = answer;
	connection->answer = answer;
	return answer;
}

static void take_request(struct connection *connection, const char *end)
{
	struct bytes *in = &connection->in;
	char *line = in->data + in->at;
	size_t len = (size_t)(end - line);
	if (len > LINE_BYTES_MAX) {
		reject(connection, TOO_LONG);
		return;
	}
	struct stk_answer *answer = len ? new_answer(connection) : NULL;
	bool whole = in->at + len < in->end; /* else the stream ends here without a line end */
	in->data[in->at + len] = '\0';
	if (answer) {
		connection->socket->request(connection->socket->module, line, len, answer);
	} else if (len) {
		reject(connection, "out of memory");
	}
	bytes_consume(in, whole ? len + 1 : len);
	connection->scanned = 0;
}

/* One request a turn, so that many in one go keep nobody else waiting. */
static void on_io(struct stk_module *module, int fd, unsigned events, void *arg)
{
	(void)module;
	(void)fd;
	struct connection *connection = arg;
	if (events & STK_READ) {
		receive(connection);
	}
	flush(connection);
	struct stk_answer *answer = connection->answer;
	bool room = bytes_len(&connection->out) < OUT_LOW;
	if (answer && answer->ready && (room || connection->closing)) {
		call_ready(answer);
	}
	const char *end = connection->answer || connection->closing || !room ? NULL : find_line(connection);
	if (end) {
		take_request(connection, end);
		flush(connection);
	}
	bool over = connection->closing || (connection->eof && !connection->answer && !bytes_len(&connection->in));
	if (over && !bytes_len(&connection->out)) {
		free_connection(connection);
	} else {
		update_watch(connection);
	}
}

/* ---- answers ---- */

static int put_line(struct connection *connection, const char *text, size_t len)
{
	struct bytes *out = &connection->out;
	int rc = bytes_reserve(out, len + 1);
	if (rc == 0) {
		(void)bytes_append(out, text, len);
		(void)bytes_append(out, "\n", 1);
		update_watch(connection);
	}
	return rc;
}

int answer_line(struct stk_answer *answer, const char *json)
{
	struct connection *connection = answer->connection;
	size_t len = strlen(json);
	if (!connection || connection->closing) {
		return -EPIPE;
	}
	if (len < 2 || json[0] != '{' || json[len - 1] != '}' || memchr(json, '\n', len)) {
		return -EINVAL;
	}
	return bytes_len(&connection->out) >= OUT_HIGH ? -EAGAIN : put_line(connection, json, len);
}

void answer_wait(struct stk_answer *answer, void (*ready)(struct stk_answer *, void *), void *arg)
{
	answer->ready = ready;
	answer->arg = arg;
	if (answer->connection) {
		update_watch(answer->connection);
	} else {
		call_ready(answer);
	}
}

bool answer_is_gone(const struct stk_answer *answer)
{
	const struct connection *connection = answer->connection;
	struct pollfd look = { .fd = connection ? connection->fd : -1 }; /* a hang-up and an error are told unasked */
	return !connection || connection->closing || poll(&look, 1, 0) > 0;
}

void answer_end(struct stk_answer *answer, const char *error)
{
	struct connection *connection = answer->connection;
	json_t *last = error ? json_pack("{s:b,s:s}", "ok", 0, "error", error) : json_pack("{s:b}", "ok", 1);
	char *text = last ? json_dumps(last, JSON_COMPACT) : NULL;
	json_decref(last);
	if (connection) {
		connection->answer = NULL;
		connection->active_at = stk_now_ms();
		if (!text || put_line(connection, text, strlen(text)) < 0) {
			connection->closing = true;
		}
		update_watch(connection);
	}
	free(text);
	*answer->prev = answer->next;
	if (answer->next) {
		answer->next->prev = answer->prev;
	}
	free(answer);
}

void answer_fail(struct stk_answer *answer, const char *fmt, ...)
{
	char *text = NULL;
	va_list args;
	va_start(args, fmt);
	int len = vasprintf(&text, fmt, args);
	va_end(args);
	answer_end(answer, len < 0 ? "out of memory" : text);
	if (len >= 0) {
		free(text);
	}
}

void answer_peer(const struct stk_answer *answer, uid_t *uid, pid_t *pid)
{
	*uid = answer->connection->peer.uid;
	*pid = answer->connection->peer.pid;
}

/* ---- accepting ---- */

static void refuse(int fd, const char *why)
{
	char line[256];
	int len = snprintf(line, sizeof(line), "{\"ok\":false,\"error\":\"%s\"}\n", why);
	(void)!send(fd, line, (size_t)len, MSG_NOSIGNAL);
	close(fd);
}

static int add_connection(struct socket *sock, int fd, const struct ucred *peer)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	if (!connection) {
		return -ENOMEM;
	}
	*connection = (struct connection){ .next = sock->connections,
					   .prev = &sock->connections,
					   .socket = sock,
					   .fd = fd,
					   .peer = *peer,
					   .active_at = stk_now_ms() };
	int rc = stk_watch(sock->module, fd, STK_READ, on_io, connection, &connection->watch);
	if (rc < 0) {
		free(connection);
		return rc;
	}
	if (sock->connections) {
		sock->connections->prev = &connection->next;
	}
	sock->connections = connection;
	sock->count++;
	return 0;
}

static void on_accept(struct stk_module *module, int listener, unsigned events, void *arg)
{
	(void)events;
	struct socket *sock = arg;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			stk_log(module, LOG_ERR, "socket: cannot accept: %s", strerror(errno));
			stk_watch_set(sock->watch, 0); /* until the timer */
		}
		return;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || (peer.uid != 0 && peer.uid != geteuid())) {
		stk_log(module, LOG_WARNING, "socket: uid %d, pid %d: refused: not root and not the server's own user",
			(int)peer.uid, (int)peer.pid);
		refuse(fd, "only root and the user that the server runs as may give commands");
	} else if (sock->count >= CONNECTIONS_MAX) {
		refuse(fd, "too many connections to the admin socket, try again later");
	} else if (add_connection(sock, fd, &peer) < 0) {
		refuse(fd, "out of memory");
	}
}

/* A command that takes its time is no idleness, a reader that takes nothing is. */
static void on_timer(struct stk_module *module, void *arg)
{
	(void)module;
	struct socket *sock = arg;
	int64_t before = stk_now_ms() - (int64_t)(sock->idle * 1000);
	struct connection *next;
	stk_watch_set(sock->watch, STK_READ);
	for (struct connection *connection = sock->connections; connection && sock->idle > 0; connection = next) {
		next = connection->next;
		bool working = connection->answer && !bytes_len(&connection->out);
		if (!working && connection->active_at < before) {
			free_connection(connection);
		}
	}
}

/* ---- the socket ---- */

/* Whatever an earlier process left is replaced, but nothing that is in use or no socket. */
static int clear_path(struct stk_module *module, const struct sockaddr_un *address)
{
	struct stat st;
	if (lstat(address->sun_path, &st) < 0) {
		return errno == ENOENT ? 0 : -errno;
	}
	if (!S_ISSOCK(st.st_mode)) {
		stk_log(module, LOG_ERR, "socket: %s: something that is no socket is there already", address->sun_path);
		return -EEXIST;
	}
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		return -errno;
	}
	int rc = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? errno : 0;
	close(fd);
	if (rc != ECONNREFUSED) {
		stk_log(module, LOG_ERR, "socket: %s: in use by another process", address->sun_path);
		return -EADDRINUSE;
	}
	return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

/* The mode of the descriptor is that of the file, from its first moment. */
static int listen_on(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		return -errno;
	}
	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	if (listen(fd, CONNECTIONS_MAX) < 0) {
		int rc = -errno;
		unlink(address->sun_path);
		close(fd);
		return rc;
	}
	return fd;
}

static int set_path(struct socket *sock, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stk_watch *watch = NULL;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	int rc = clear_path(sock->module, &address);
	int fd = rc < 0 ? rc : listen_on(&address);
	if (fd < 0) {
		stk_log(sock->module, LOG_ERR, "socket: %s: %s", path, strerror(-fd));
		return fd;
	}
	rc = stk_watch(sock->module, fd, STK_READ, on_accept, sock, &watch);
	if (rc < 0) {
		unlink(address.sun_path);
		close(fd);
		return rc;
	}
	if (sock->fd >= 0) {
		stk_watch_stop(&sock->watch);
		unlink(sock->address.sun_path);
		close(sock->fd);
	}
	sock->address = address;
	sock->fd = fd;
	sock->watch = watch;
	return 0;
}

int socket_set(struct socket *sock, const char *path, double idle)
{
	double every = idle > 0 && idle < 4 ? idle / 4 : 1;
	struct stk_timer *timer = stk_timer(sock->module, every, every, on_timer, sock);
	if (!timer) {
		return -ENOMEM;
	}
	int rc = sock->fd >= 0 && strcmp(path, sock->address.sun_path) == 0 ? 0 : set_path(sock, path);
	if (rc < 0) {
		stk_timer_stop(&timer);
		return rc;
	}
	stk_timer_stop(&sock->timer);
	sock->timer = timer;
	sock->idle = idle;
	return 0;
}

int socket_open(struct stk_module *module, const char *path, double idle, request_fn *request, struct socket **out)
{
	struct socket *sock = calloc(1, sizeof(*sock));
	if (!sock) {
		return -ENOMEM;
	}
	*sock = (struct socket){ .module = module, .request = request, .fd = -1 };
	int rc = socket_set(sock, path, idle);
	if (rc < 0) {
		free(sock);
		return rc;
	}
	*out = sock;
	return 0;
}

void socket_close(struct socket **sock_ptr)
{
	struct socket *sock = *sock_ptr;
	if (!sock) {
		return;
	}
	*sock_ptr = NULL; /* watches and the timer are withdrawn by the core, and gone by now */
	unlink(sock->address.sun_path); /* before clients see the end */
	close(sock->fd);
	while (sock->connections) {
		struct connection *connection = sock->connections;
		if (connection->answer) {
			connection->answer->ready = NULL; /* whoever waits may be gone */
		}
		flush(connection);
		connection->watch = NULL;
		free_connection(connection);
	}
	free(sock);
}
