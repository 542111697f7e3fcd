/* SPDX-License-Identifier: MIT */
/* A transport that is a module, for the tests: sessions over a socket on which stanzas are lines of text. What comes in:
 *   login USER PASSWORD | trust USER | bind RESOURCE | presence | say TO ID TEXT | ping ID | answer ID | got MARK
 * What goes out: one line per stanza, "login USER", "refused REASON", "hold", "go on" and "end CODE REASON". */

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include <startalkd/module.h>

struct line {
	struct line *next;
	struct stk_module *module;
	struct stk_watch *watch;
	int fd;
	uint64_t id; /* 0: no session, or none any more */
	size_t len;
	char in[4096];
};

struct state {
	int fd;
	struct stk_watch *watch;
	struct line *lines;
};

static void put(const struct line *line, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(const struct line *line, const char *fmt, ...)
{
	char text[8192];
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(text, sizeof(text) - 1, fmt, args);
	va_end(args);
	if (n > 0 && (size_t)n < sizeof(text) - 1) {
		text[n++] = '\n';
		ssize_t sent = send(line->fd, text, (size_t)n, MSG_NOSIGNAL);
		(void)sent;
	}
}

/* ---- from the server ---- */

static const char *or_dash(const char *text)
{
	return text && *text ? text : "-";
}

static int send_line(struct stk_module *module, void *conn, struct stk_stanza *stanza, uint64_t mark)
{
	const struct stk_node *root = stk_stanza_root(stanza), *payload = stk_stanza_payload(stanza);
	const struct stk_node *body = stk_node_child(root, "body", NULL);
	(void)module;
	if (body && strcmp(stk_node_text(body), "burst") == 0) {
		return -EIO;
	}
	put(conn, "%s type=%s id=%s from=%s to=%s payload=%s mark=%llu %s", stk_node_name(root), or_dash(stk_stanza_type(stanza)),
	    or_dash(body ? stk_node_attr(body, "id") : stk_stanza_id(stanza)), or_dash(stk_stanza_from(stanza)), or_dash(stk_stanza_to(stanza)),
	    or_dash(payload ? stk_node_name(payload) : NULL), (unsigned long long)mark, or_dash(stk_node_text(body)));
	return 0;
}

static void end(struct stk_module *module, void *conn, int code, const char *reason)
{
	struct line *line = conn;
	(void)module;
	line->id = 0;
	put(line, "end %d %s", code, or_dash(reason));
}

static void hold(struct stk_module *module, void *conn, bool stop)
{
	(void)module;
	put(conn, "%s", stop ? "hold" : "go on");
}

static void tell_login(struct stk_module *module, void *conn, const char *user, const char *reason)
{
	(void)module;
	put(conn, "%s %s", user ? "login" : "refused", user ? user : reason);
}

static int challenge(struct stk_module *module, void *conn, const uint8_t *out, size_t len)
{
	(void)module;
	put(conn, "challenge %.*s", (int)len, (const char *)out);
	return 0;
}

static const struct stk_transport transport = { .size = sizeof(transport), .name = "lines", .send = send_line, .end = end, .hold = hold,
	                                        .login = tell_login, .challenge = challenge };

/* ---- to the server ---- */

static void open_session(struct line *line, const char *user)
{
	struct stk_peer peer = { .size = sizeof(peer), .address = "127.0.0.1:7", .secure = true, .user = user };
	int rc = stk_session_open(line->module, &transport, line, &peer, &line->id);
	if (rc < 0) {
		put(line, "error %s", strerror(-rc));
		line->id = 0;
	}
}

static void input(struct line *line, struct stk_stanza *stanza)
{
	int rc = stk_session_input(line->module, line->id, stanza);
	if (rc < 0) {
		put(line, "error %s", strerror(-rc));
	}
}

static void log_in(struct line *line, const char *mechanism, const char *user, const char *password)
{
	uint8_t text[512];
	int n = snprintf((char *)text, sizeof(text), "%c%s%c%s", 0, user, 0, password);
	if (!line->id) {
		open_session(line, NULL);
	}
	stk_session_auth(line->module, line->id, mechanism, text, (size_t)n);
}

static void say(struct line *line, const char *to, const char *id, const char *text)
{
	struct stk_stanza *stanza = stk_stanza_new(STK_MESSAGE, "chat", NULL);
	stk_stanza_set_to(stanza, to);
	struct stk_node *body = stk_node_add(stk_stanza_edit(stanza), "body", NULL);
	stk_node_set(body, "id", id);
	stk_node_set(body, "msgType", "1");
	stk_node_set_text(body, text);
	input(line, stanza);
}

static void bind_resource(struct line *line, const char *resource)
{
	struct stk_stanza *stanza = stk_stanza_new(STK_IQ, "set", "b");
	struct stk_node *bind = stk_node_add(stk_stanza_edit(stanza), "bind", "urn:ietf:params:xml:ns:xmpp-bind");
	stk_node_set_text(stk_node_add(bind, "resource", NULL), resource);
	input(line, stanza);
}

static void be_present(struct line *line)
{
	struct stk_stanza *stanza = stk_stanza_new(STK_PRESENCE, NULL, NULL);
	stk_node_set_text(stk_node_add(stk_stanza_edit(stanza), "priority", NULL), "5");
	input(line, stanza);
}

static void ask_or_answer(struct line *line, bool answer, const char *id)
{
	struct stk_stanza *stanza = stk_stanza_new(STK_IQ, answer ? "result" : "get", id);
	if (!answer) {
		stk_node_add(stk_stanza_edit(stanza), "ping", "urn:xmpp:ping");
	}
	input(line, stanza);
}

static void obey(struct line *line, char *text)
{
	char *rest = text, *word = strsep(&rest, " "), *one = rest;
	if (strcmp(word, "trust") == 0) {
		open_session(line, rest);
	} else if (strcmp(word, "login") == 0) {
		one = strsep(&rest, " ");
		log_in(line, "PLAIN", one, rest);
	} else if (strcmp(word, "riddle") == 0) {
		log_in(line, "RIDDLE", one, "");
	} else if (strcmp(word, "solve") == 0) {
		stk_session_auth(line->module, line->id, NULL, (const uint8_t *)one, strlen(one));
	} else if (strcmp(word, "bind") == 0) {
		bind_resource(line, one);
	} else if (strcmp(word, "presence") == 0) {
		be_present(line);
	} else if (strcmp(word, "say") == 0) {
		char *to = strsep(&rest, " "), *id = strsep(&rest, " ");
		say(line, to, id, rest);
	} else if (strcmp(word, "ping") == 0 || strcmp(word, "answer") == 0) {
		ask_or_answer(line, word[0] == 'a', one);
	} else if (strcmp(word, "got") == 0) {
		stk_session_delivered(line->module, line->id, strtoull(one, NULL, 10));
	}
}

/* ---- sockets ---- */

static void free_line(struct line *line)
{
	struct state *state = stk_data(line->module);
	struct line **at = &state->lines;
	while (*at != line) {
		at = &(*at)->next;
	}
	*at = line->next;
	stk_watch_stop(&line->watch);
	close(line->fd);
	free(line);
}

/* The line is kept until end(): the session may still be sent to. */
static void on_lost(struct line *line)
{
	stk_watch_stop(&line->watch);
	if (line->id) {
		stk_session_close(line->module, line->id);
	}
}

static void on_line(struct stk_module *module, int fd, unsigned events, void *arg)
{
	struct line *line = arg;
	char *end_of_line;
	(void)module;
	(void)events;
	ssize_t n = recv(fd, line->in + line->len, sizeof(line->in) - line->len, MSG_DONTWAIT);
	if (n <= 0) {
		on_lost(line);
		return;
	}
	line->len += (size_t)n;
	while ((end_of_line = memchr(line->in, '\n', line->len)) != NULL) {
		*end_of_line = '\0';
		obey(line, line->in);
		size_t used = (size_t)(end_of_line + 1 - line->in);
		memmove(line->in, line->in + used, line->len - used);
		line->len -= used;
	}
}

static void on_connection(struct stk_module *module, int fd, unsigned events, void *arg)
{
	struct state *state = arg;
	(void)events;
	struct line *line = calloc(1, sizeof(*line));
	int peer = line ? accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;
	if (peer < 0) {
		free(line);
		return;
	}
	*line = (struct line){ .next = state->lines, .module = module, .fd = peer };
	state->lines = line;
	stk_watch(module, peer, STK_READ, on_line, line, &line->watch);
}

static int load(struct stk_module *module, const void *conf)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	struct state *state = calloc(1, sizeof(*state));
	(void)conf;
	if (!state) {
		return -ENOMEM;
	}
	stk_set_data(module, state);
	state->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (state->fd < 0 || bind(state->fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(state->fd, 64) < 0 ||
	    getsockname(state->fd, (struct sockaddr *)&address, &len) < 0) {
		return -errno;
	}
	stk_log(module, LOG_INFO, "port %d", ntohs(address.sin_port));
	return stk_watch(module, state->fd, STK_READ, on_connection, state, &state->watch);
}

static void unload(struct stk_module *module)
{
	struct state *state = stk_data(module);
	while (state->lines) {
		free_line(state->lines);
	}
	close(state->fd);
	free(state);
}

STK_MODULE(.name = "loopback", .version = "1", .load = load, .unload = unload);
