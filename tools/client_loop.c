/* SPDX-License-Identifier: MIT */
/* The terminal client's session: stanzas out and in, requests and their answers, receipts, keep-alive, and the loop
 * over standard input and the socket. Owns what is waited for and for how long. What a command means and how a stanza
 * looks in words is decided elsewhere. */

#include "tools/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <gnutls/crypto.h>

#include "core/stanza.h"
#include "proto/codec.h"

#define KEEPALIVE (60 * INT64_C(1000000))
#define OUT_MAX (256u * 1024)  /* bytes that may wait to be sent before commands wait too */
#define GRACE INT64_C(1000000) /* at an interactive end, for what was typed last */

void client_make_id(char id[CLIENT_ID_SIZE])
{
	unsigned char bytes[(CLIENT_ID_SIZE - 1) / 2];
	if (gnutls_rnd(GNUTLS_RND_NONCE, bytes, sizeof(bytes)) < 0) {
		abort(); /* without random numbers there is no TLS either */
	}
	for (size_t i = 0; i < sizeof(bytes); i++) {
		snprintf(id + 2 * i, 3, "%02x", bytes[i]);
	}
}

/* ---- stanzas out and in ---- */

static struct codec_context make_context(const struct client *client, enum codec_side side)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (struct codec_context){ .self = client->full ? client->full : client->bare,
				       .now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
				       .inflate_max = NET_FRAME_MAX,
				       .side = side };
}

static const char *say_unsent(int rc)
{
	switch (rc) {
	case -ENOMEM: return "out of memory";
	case -EILSEQ: return "not sent: it is not valid UTF-8";
	case -EMSGSIZE: return "not sent: it is too long";
	default: return "not sent: the protocol has no frame for it";
	}
}

int client_send(struct client *client, struct stk_stanza *stanza, const struct stk_stanza *shown)
{
	struct codec_context context = make_context(client, CODEC_CLIENT);
	size_t before = client->net.out.len;
	int rc = !stanza || stanza_failed(stanza) ? -ENOMEM : codec_encode(&context, stanza, &client->net.out);
	if (rc == 0 && client->net.out.len == before) {
		rc = -EINVAL;
	}
	if (rc < 0) {
		show_error(client, "%s", say_unsent(rc));
	} else if (client->raw) {
		show_raw(client, ">> ", shown ? shown : stanza, false);
	}
	stk_stanza_unref(stanza);
	return rc;
}

int client_receive(struct client *client, struct stk_stanza **stanza)
{
	struct codec_context context = make_context(client, CODEC_SERVER);
	const uint8_t *frame;
	size_t len;
	int rc;
	*stanza = NULL;
	while ((rc = net_frame(&client->net, &frame, &len)) > 0) {
		const char *why = "it does not decode";
		rc = codec_decode(&context, frame, len, stanza, NULL, &why);
		net_frame_done(&client->net);
		if (rc < 0) {
			show_error(client, "the server sent a broken frame: %s", why ? why : strerror(-rc));
			return -EBADMSG;
		}
		if (*stanza && client->raw) {
			show_raw(client, "<< ", *stanza, true);
		}
		if (*stanza) {
			return 1;
		}
	}
	if (rc < 0) {
		show_error(client, "the server sent %s", client->net.error);
	}
	return rc;
}

/* ---- what is waited for ---- */

static bool drop_unanswered(struct client *client, const char *id)
{
	for (size_t i = 0; id && i < client->unanswered_n; i++) {
		if (strcmp(client->unanswered[i], id) == 0) {
			memcpy(client->unanswered[i], client->unanswered[--client->unanswered_n], CLIENT_ID_SIZE);
			return true;
		}
	}
	return false;
}

static void handle_message(struct client *client, const struct stk_stanza *stanza)
{
	const char *type = stk_stanza_type(stanza);
	const char *id = stk_node_attr(stk_node_child(stk_stanza_root(stanza), "body", NULL), "id");
	bool error = type && strcmp(type, "error") == 0, receipt = type && strcmp(type, "mstat") == 0;
	if ((error || receipt) && drop_unanswered(client, id) && error) {
		client->refused = true;
	}
	show_stanza(client, stanza);
}

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
	case STK_MESSAGE: handle_message(client, stanza); break;
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

static int step(struct client *client, bool with_input, int64_t deadline)
{
	struct pollfd fds[2] = { { .fd = client->net.fd }, { .fd = with_input ? STDIN_FILENO : -1, .events = POLLIN } };
	int rc = net_io(&client->net);
	if (rc == 0) {
		int64_t until = deadline < client->keepalive_at ? deadline : client->keepalive_at;
		fds[0].events = net_events(&client->net);
		rc = wait_fds(fds, 2, net_has_buffered(&client->net) ? 0 : until);
		if (rc == -EINTR) {
			return rc;
		}
		rc = rc > 0 && fds[0].revents ? net_io(&client->net) : rc < 0 ? rc : 0;
	}
	int handled = handle_all(client);
	if (handled < 0) {
		return handled;
	}
	if (rc < 0) {
		show_error(client, "connection lost: %s", client->net.error);
		return rc;
	}
	if (fds[1].revents && (rc = read_input(&client->input)) < 0) {
		show_error(client, "standard input: %s", strerror(-rc));
		return rc;
	}
	return keep_alive(client);
}

int client_step(struct client *client, bool with_input, int64_t deadline, bool *expired)
{
	int rc = step(client, with_input, deadline);
	client->lost |= rc < 0;
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
		rc = client_step(client, false, deadline, &expired);
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
		rc = client_step(client, false, deadline, &expired);
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

static int check_refused(struct client *client)
{
	if (client->refused && !client->interactive) {
		show_error(client, "a message was refused");
		return -EACCES;
	}
	client->refused = false;
	return 0;
}

static int run_line(struct client *client)
{
	char *line;
	int rc = take_line(&client->input, &line);
	if (rc <= 0) {
		if (rc < 0) {
			show_error(client, "%s",
				   rc == -EMSGSIZE ? "a line is longer than 64 KiB"
				   : rc == -EILSEQ ? "there is a NUL in a line"
						   : "out of memory");
		}
		return rc;
	}
	client->prompted = false; /* the newline that was typed left it behind */
	rc = client_command(client, line);
	free(line);
	/* Even a script that never waits has to hear what the server says. */
	while (rc == 0 && client->net.out.len > OUT_MAX) {
		rc = client_step(client, false, NEVER, NULL);
	}
	rc = rc < 0 ? rc : client_step(client, false, 0, NULL);
	rc = rc < 0 ? rc : check_refused(client);
	return rc < 0 ? rc : 1;
}

/* What was sent is out and answered: the server handles what comes on one connection in order, so its answer to a last
 * ping, whatever it says, stands behind all others. */
static int settle(struct client *client)
{
	struct stk_stanza *answer = NULL;
	double unused;
	int64_t deadline = clock_us() + GRACE;
	bool expired = false;
	int rc = 0;
	if (client->interactive) {
		while (rc == 0 && client->net.out.len && !expired) {
			rc = client_step(client, false, deadline, &expired);
		}
		return rc;
	}
	client_make_id(client->asked);
	struct stk_stanza *ping = stk_stanza_new(STK_IQ, "get", client->asked);
	stk_node_add(stk_stanza_edit(ping), "ping", "urn:xmpp:ping");
	rc = client_ask(client, ping, &answer, &unused);
	stk_stanza_unref(answer);
	rc = rc < 0 ? rc : client_await_receipts(client, 0);
	return rc < 0 ? rc : check_refused(client);
}

int client_run(struct client *client)
{
	client->keepalive_at = clock_us() + KEEPALIVE;
	while (!client->quit) {
		int rc = run_line(client);
		if (rc == 0 && client->input.eof) {
			break;
		}
		if (rc == 0) {
			show_prompt(client);
			rc = client_step(client, true, NEVER, NULL);
		}
		if (rc < 0 && (client->lost || !client->interactive)) {
			return rc;
		}
	}
	return settle(client);
}
