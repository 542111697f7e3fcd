/* SPDX-License-Identifier: MIT */
/* The terminal client's session: requests and their answers, receipts, keep-alive, and the loop over standard input and
 * the socket. Owns what is waited for and for how long. What a command means and how a stanza looks in words is decided
 * elsewhere. */

#include "tools/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/stanza.h"

#define KEEPALIVE (60 * INT64_C(1000000))
#define OUT_MAX (256u * 1024)  /* bytes that may wait to be sent before commands wait too */
#define GRACE INT64_C(1000000) /* at an interactive end, for what was typed last */

/* ---- what is waited for ---- */

static void handle_iq(struct client *client, struct stk_stanza *stanza)
{
	const char *id = stk_stanza_id(stanza), *type = stk_stanza_type(stanza);
	bool answer = type && (strcmp(type, "result") == 0 || strcmp(type, "error") == 0);
	if (id && *id && answer && strcmp(id, client->asked) == 0) {
		client->asked[0] = '\0';
		client->answer = stk_stanza_ref(stanza);
	} else if (id && *id && answer && strcmp(id, client->keepalive) == 0) {
		client->keepalive[0] = '\0'; /* an error is a sign of life too */
	} else {
		show_stanza(client, stanza);
	}
}

static void handle(struct client *client, struct stk_stanza *stanza)
{
	switch (stanza_element(stanza)) {
	case STK_IQ: handle_iq(client, stanza); break;
	case STK_MESSAGE: client_message(client, stanza); break;
	case STANZA_STREAM_END:
		client->ended = true;
		show_stanza(client, stanza);
		break;
	default: show_stanza(client, stanza); break;
	}
}

static int handle_all(struct client *client)
{
	struct stk_stanza *stanza;
	int rc = 0;
	while (!client->ended && (rc = client_receive(client, &stanza)) > 0) {
		handle(client, stanza);
		stk_stanza_unref(stanza);
	}
	if (client->ended) {
		show_error(client, "the server ended the stream");
		return -ECONNRESET;
	}
	return rc;
}

/* A server that answers nothing for a whole period is gone. */
static int keep_alive(struct client *client)
{
	int64_t now = clock_us();
	if (now < client->keepalive_at) {
		return 0;
	}
	if (client->keepalive[0]) {
		show_error(client, "connection lost: the server no longer answers");
		return -ETIMEDOUT;
	}
	client_make_id(client->keepalive);
	client->keepalive_at = now + KEEPALIVE;
	struct stk_stanza *ping = stk_stanza_new(STK_IQ, "get", client->keepalive);
	stk_node_add(stk_stanza_edit(ping), "ping", "urn:xmpp:ping");
	return client_send(client, ping, NULL);
}

static int read_input(struct client_input *input)
{
	uint8_t *room = buf_reserve(&input->buf, 4096);
	if (!room) {
		return -ENOMEM;
	}
	ssize_t n = read(STDIN_FILENO, room, 4096);
	if (n < 0 && errno != EINTR && errno != EAGAIN) {
		return -errno;
	}
	if (n > 0) {
		buf_grew(&input->buf, (size_t)n);
	}
	input->eof = n == 0;
	return 0;
}

/* What a connection's turn begins with: writing and reading without waiting. Returns net_io()'s word on it. */
static int start_turn(struct client *client, struct pollfd *pollfd, int64_t *until)
{
	int rc = net_io(&client->net);
	*pollfd = (struct pollfd){ .fd = client->net.fd, .events = net_events(&client->net) };
	*until = client->keepalive_at < *until ? client->keepalive_at : *until;
	*until = rc < 0 || net_has_buffered(&client->net) ? 0 : *until;
	return rc;
}

/* The rest of it; RC is what start_turn() returned, READY: there is something to read or to write. */
static int end_turn(struct client *client, bool ready, int rc)
{
	rc = rc == 0 && ready ? net_io(&client->net) : rc;
	int handled = handle_all(client); /* also what came before the end */
	if (handled < 0) {
		return handled;
	}
	if (rc < 0) {
		show_error(client, "connection lost: %s", client->net.error);
		return rc;
	}
	rc = client_send_marks(client);
	return rc < 0 ? rc : keep_alive(client);
}

static int step(struct client_run *run, bool with_input, int64_t deadline)
{
	struct pollfd fds[CLIENT_ACCOUNTS_MAX + 1];
	int states[CLIENT_ACCOUNTS_MAX];
	int64_t until = deadline;
	size_t n = run->clients_n;
	for (size_t i = 0; i < n; i++) {
		states[i] = start_turn(&run->clients[i], &fds[i], &until);
	}
	fds[n] = (struct pollfd){ .fd = with_input ? STDIN_FILENO : -1, .events = POLLIN };
	int rc = wait_fds(fds, n + 1, until);
	if (rc < 0) {
		if (rc != -EINTR) {
			show_error(run->current, "waiting: %s", strerror(-rc));
		}
		return rc;
	}
	for (size_t i = 0; i < n; i++) {
		int ended = end_turn(&run->clients[i], fds[i].revents != 0, states[i]);
		rc = rc < 0 ? rc : ended;
	}
	if (rc >= 0 && fds[n].revents && (rc = read_input(&run->input)) < 0) {
		show_error(run->current, "standard input: %s", strerror(-rc));
	}
	return rc;
}

int client_step(struct client_run *run, bool with_input, int64_t deadline, bool *expired)
{
	int rc = step(run, with_input, deadline);
	run->lost |= rc < 0;
	if (expired) {
		*expired = clock_us() >= deadline; /* however much comes in the meantime */
	}
	return rc;
}

int client_ask(struct client *client, struct stk_stanza *request, struct stk_stanza **answer, double *milliseconds)
{
	int64_t from = clock_us(), deadline = from + client->options->timeout;
	bool expired = false;
	int rc = client_send(client, request, NULL);
	while (rc == 0 && client->asked[0] && !expired) {
		rc = client_step(client->run, false, deadline, &expired);
	}
	bool answered = client->answer != NULL;
	client->asked[0] = '\0';
	*milliseconds = (double)(clock_us() - from) / 1000;
	*answer = client->answer;
	client->answer = NULL;
	if (answered || rc < 0) {
		return answered ? 0 : rc;
	}
	show_error(client, "no answer in time");
	return -ETIMEDOUT;
}

int client_await_receipts(struct client *client, size_t left)
{
	int64_t deadline = clock_us() + client->options->timeout;
	bool expired = false;
	int rc = 0;
	while (rc == 0 && client->unanswered_n > left && !expired) {
		rc = client_step(client->run, false, deadline, &expired);
	}
	if (rc == 0 && client->unanswered_n > left) {
		show_error(client, "no receipt in time (messages without one: %zu)", client->unanswered_n);
		client->unanswered_n = 0; /* those that follow are not held up by them */
		return -ETIMEDOUT;
	}
	return rc;
}

/* ---- the loop ---- */

/* The next line of the input in a buffer to be freed. 1, 0: none is whole yet, -EMSGSIZE, -EILSEQ, -ENOMEM. */
static int take_line(struct client_input *input, char **line)
{
	const uint8_t *end = input->buf.len ? memchr(buf_data(&input->buf), '\n', input->buf.len) : NULL;
	size_t len = end ? (size_t)(end - buf_data(&input->buf)) : input->buf.len;
	if (len <= CLIENT_LINE_MAX && !end && (!input->eof || !len)) {
		return 0;
	}
	int rc = len > CLIENT_LINE_MAX ? -EMSGSIZE : memchr(buf_data(&input->buf), '\0', len) ? -EILSEQ : 1;
	if (rc > 0) {
		*line = strndup((const char *)buf_data(&input->buf), len);
		rc = *line ? 1 : -ENOMEM;
	}
	buf_consume(&input->buf, len + (end ? 1 : 0));
	if (rc > 0 && len && (*line)[len - 1] == '\r') {
		(*line)[len - 1] = '\0';
	}
	return rc;
}

static int check_refused(struct client_run *run)
{
	int rc = 0;
	for (size_t i = 0; i < run->clients_n; i++) {
		struct client *client = &run->clients[i];
		if (client->refused && !run->interactive) {
			show_error(client, "a message was refused");
			rc = -EACCES;
		}
		client->refused = false;
	}
	return rc;
}

/* Bytes that wait to be sent on the connection that has most of them. */
static size_t unsent(const struct client_run *run)
{
	size_t most = 0;
	for (size_t i = 0; i < run->clients_n; i++) {
		size_t len = run->clients[i].net.out.len;
		most = len > most ? len : most;
	}
	return most;
}

static int run_line(struct client_run *run)
{
	char *line;
	int rc = take_line(&run->input, &line);
	if (rc <= 0) {
		if (rc < 0) {
			show_error(run->current, "%s",
				   rc == -EMSGSIZE ? "a line is longer than 64 KiB"
				   : rc == -EILSEQ ? "there is a NUL in a line"
						   : "out of memory");
		}
		return rc;
	}
	run->prompted = false; /* the newline that was typed left it behind */
	rc = client_command(run->current, line);
	free(line);
	/* Even a script that never waits has to hear what the server says. */
	while (rc == 0 && unsent(run) > OUT_MAX) {
		rc = client_step(run, false, NEVER, NULL);
	}
	rc = rc < 0 ? rc : client_step(run, false, 0, NULL);
	rc = rc < 0 ? rc : check_refused(run);
	return rc < 0 ? rc : 1;
}

/* The server handles what comes on one connection in order, so its answer to a last ping, whatever it says, stands
 * behind all others. */
static int await_answers(struct client *client)
{
	struct stk_stanza *answer = NULL;
	double unused;
	client_make_id(client->asked);
	struct stk_stanza *ping = stk_stanza_new(STK_IQ, "get", client->asked);
	stk_node_add(stk_stanza_edit(ping), "ping", "urn:xmpp:ping");
	int rc = client_ask(client, ping, &answer, &unused);
	stk_stanza_unref(answer);
	client->unsettled = client->unsettled && rc < 0;
	return rc;
}

int client_settle_others(struct client *client)
{
	struct client_run *run = client->run;
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < run->clients_n; i++) {
		struct client *other = &run->clients[i];
		if (other != client && other->unsettled) {
			rc = await_answers(other);
			rc = rc < 0 ? rc : client_await_receipts(other, 0);
		}
	}
	return rc;
}

/* What was sent is out and answered. */
static int settle(struct client_run *run)
{
	int64_t deadline = clock_us() + GRACE;
	bool expired = false;
	int rc = 0;
	if (run->interactive) {
		while (rc == 0 && unsent(run) && !expired) {
			rc = client_step(run, false, deadline, &expired);
		}
		return rc;
	}
	for (size_t i = 0; rc == 0 && i < run->clients_n; i++) {
		rc = await_answers(&run->clients[i]);
	}
	/* Only now: what one account sent, and another has been waited for since, may have made it send something. */
	for (size_t i = 0; rc == 0 && i < run->clients_n; i++) {
		rc = client_await_receipts(&run->clients[i], 0);
	}
	return rc < 0 ? rc : check_refused(run);
}

int client_run(struct client_run *run)
{
	for (size_t i = 0; i < run->clients_n; i++) {
		run->clients[i].keepalive_at = clock_us() + KEEPALIVE;
	}
	while (!run->quit) {
		int rc = run_line(run);
		if (rc == 0 && run->input.eof) {
			break;
		}
		if (rc == 0) {
			show_prompt(run);
			rc = client_step(run, true, NEVER, NULL);
		}
		if (rc < 0 && (run->lost || !run->interactive)) {
			return rc;
		}
	}
	return settle(run);
}
