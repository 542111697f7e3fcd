/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "core/loop.h"
#include "proto/codec.h"

#define PATIENCE 20.0 /* seconds until a test is given up */

/* The test is the router: it takes the events and gives commands. */
struct house {
	struct ev_loop *ev;
	struct mailbox events;
	struct loop *loop;
	struct sockaddr_in address;
	uint64_t conns[64]; /* in the order of their EVENT_OPENED */
	int opened, broken, closed, stanzas;
	struct mail *kept, **last; /* stanzas, while `keep`: not dealt with */
	size_t weight;             /* of these */
	bool keep, ordered;
};

static double now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool note_port(const char *address, enum stk_tls tls, void *arg)
{
	(void)tls;
	struct house *house = arg;
	house->address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	house->address.sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1));
	return false;
}

static const struct settings_limits usual = {
	.max_frame = 1 << 20, .max_frame_login = 4096, .max_depth = 16, .max_headers = 256, .max_parts = 256,
	.max_fields = 4096, .max_send_queue = 4 << 20, .max_connections = 1000,
};

/* A loop without TLS, and THREADS beside it. */
static struct house *build(unsigned threads)
{
	char err[256];
	struct settings_listen listen = { .address = "127.0.0.1", .tls = LISTEN_TLS_OFF, .backlog = 100 };
	struct house *house = calloc(1, sizeof(*house));
	assert_non_null(house);
	house->ev = ev_loop_new(0);
	house->last = &house->kept;
	house->ordered = true;
	mailbox_init(&house->events, house->ev);
	house->loop = loop_new(house->ev, &house->events, &usual, NULL);
	assert_non_null(house->loop);
	assert_int_equal(loop_start(house->loop, threads), 0);
	int fd = listen_bind(&listen, err, sizeof(err));
	assert_true(fd >= 0);
	assert_int_equal(loop_listen(house->loop, &listen, fd, err, sizeof(err)), 0);
	loop_each_listener(house->loop, note_port, house);
	return house;
}

static void settle(struct house *house)
{
	while (house->kept) {
		struct mail *mail = house->kept;
		house->kept = mail->next;
		event_free((struct event *)mail);
	}
	house->last = &house->kept;
	house->weight = 0;
}

static void take_event(struct house *house, struct event *event)
{
	switch ((enum event_kind)event->mail.kind) {
	case EVENT_OPENED: house->conns[house->opened++] = event->conn; break;
	case EVENT_BROKEN: house->broken++; break;
	case EVENT_CLOSED: house->closed++; break;
	case EVENT_STANZA:
		house->ordered &= atoi(stk_node_attr(stk_stanza_payload(event->stanza), "id")) == house->stanzas;
		house->stanzas++;
		if (house->keep) {
			event->mail.next = NULL;
			*house->last = &event->mail;
			house->last = &event->mail.next;
			house->weight += event->weight;
			return;
		}
		break;
	default: break;
	}
	event_free(event);
}

/* A round of the router's thread; true: there was mail. */
static bool go_round(struct house *house)
{
	loop_deliver(house->loop);
	bool any = loop_run(house->loop);
	ev_run(house->ev, EVRUN_NOWAIT);
	loop_run(house->loop);
	for (struct mail *mail = mailbox_take(&house->events), *next; mail; mail = next) {
		next = mail->next;
		take_event(house, (struct event *)mail);
		any = true;
	}
	if (!any) {
		usleep(200);
	}
	return any;
}

static void wait_for(struct house *house, const int *count, int wanted)
{
	double end = now() + PATIENCE;
	while (*count < wanted) {
		go_round(house);
		assert_true(now() < end);
	}
	assert_int_equal(*count, wanted);
}

static void demolish(struct house *house)
{
	settle(house);
	loop_stop(house->loop);
	for (struct mail *mail = mailbox_take(&house->events), *next; mail; mail = next) {
		next = mail->next;
		event_free((struct event *)mail);
	}
	loop_free(&house->loop);
	assert_null(house->loop);
	mailbox_fini(&house->events);
	ev_loop_destroy(house->ev);
	free(house);
}

static int dial(const struct house *house)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&house->address, sizeof(house->address)), 0);
	return fd;
}

/* A message as a client sends it, with NUMBER for its id and SIZE bytes of text. */
static void make_frame(struct buf *frame, int number, size_t size)
{
	char id[16], text[2048];
	snprintf(id, sizeof(id), "%d", number);
	memset(text, 'x', sizeof(text));
	text[size] = '\0';
	struct stk_stanza *stanza = stk_stanza_new(STK_MESSAGE, "chat", NULL);
	stk_stanza_set_to(stanza, "bob@example.org");
	struct stk_node *body = stk_node_add(stk_stanza_edit(stanza), "body", NULL);
	stk_node_set(body, "id", id);
	stk_node_set_text(body, text);
	struct codec_context context = { .side = CODEC_CLIENT, .now_ms = 1, .inflate_max = 1 << 20 };
	assert_int_equal(codec_encode(&context, stanza, frame), 0);
	stk_stanza_unref(stanza);
}

static struct stk_stanza *make_stanza(void)
{
	struct stk_stanza *stanza = stanza_new(STANZA_PROCEED, "proceed", "urn:ietf:params:xml:ns:xmpp-tls", 256);
	assert_non_null(stanza);
	stanza_seal(stanza);
	return stanza;
}

static void connections_are_spread_and_commands_find_them(void **state)
{
	(void)state;
	struct house *house = build(3);
	int fds[9], per_loop[256] = { 0 };
	for (int i = 0; i < 9; i++) {
		fds[i] = dial(house);
		wait_for(house, &house->opened, i + 1);
		per_loop[house->conns[i] >> 24 & 255]++;
		assert_int_equal(loop_command(house->loop, COMMAND_SEND, house->conns[i], make_stanza(), NULL), 0);
	}
	assert_int_equal(loop_connections(house->loop), 9);
	for (int i = 1; i <= 3; i++) {
		assert_int_equal(per_loop[i], 3);
	}
	for (int i = 0; i < 9; i++) {
		uint8_t byte;
		for (ssize_t n = 0; n != 1;) { /* each has got its own */
			go_round(house);
			n = recv(fds[i], &byte, 1, MSG_DONTWAIT);
		}
		loop_command(house->loop, COMMAND_END, house->conns[i], NULL, NULL);
		loop_command(house->loop, COMMAND_END, house->conns[i] + ((uint64_t)1 << 32), NULL, NULL); /* nobody */
		loop_command(house->loop, COMMAND_END, house->conns[i] | 0xff000000u, NULL, NULL);
	}
	double end = now() + PATIENCE;
	while (loop_connections(house->loop)) {
		go_round(house);
		assert_true(now() < end);
	}
	for (int i = 0; i < 9; i++) {
		close(fds[i]);
	}
	demolish(house);
}

/* Writes as much of FRAMES as the socket takes. */
static size_t write_some(int fd, const struct buf *frames, size_t at)
{
	ssize_t n = send(fd, buf_data(frames) + at, frames->len - at, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n > 0 ? at + (size_t)n : at;
}

static void pressure(unsigned threads)
{
	enum { FRAMES = 3000 };
	const size_t bound = 512 * 1024;
	struct house *house = build(threads);
	struct buf frames = { 0 };
	size_t at = 0;
	for (int i = 0; i < FRAMES; i++) {
		make_frame(&frames, i, 900);
	}
	int fd = dial(house);
	wait_for(house, &house->opened, 1);
	loop_command(house->loop, COMMAND_LOGIN, house->conns[0], NULL, "alice@example.org");
	loop_command(house->loop, COMMAND_RESUME, house->conns[0], NULL, NULL); /* the first frame may have been read in lockstep */
	house->keep = true;
	double quiet = now() + 0.3, end = now() + PATIENCE;
	while (now() < quiet) { /* until nothing comes any more, though there is more */
		at = write_some(fd, &frames, at);
		quiet = go_round(house) ? now() + 0.3 : quiet;
		assert_true(house->weight < bound);
	}
	assert_true(house->stanzas > 20);
	assert_true(house->stanzas < FRAMES);
	while (house->stanzas < FRAMES) { /* from now on the router is at work, by fits and starts */
		at = write_some(fd, &frames, at);
		if (!go_round(house) || house->weight > bound / 4) {
			settle(house);
		}
		house->keep = house->stanzas % 1000 > 300;
		if (!house->keep) {
			settle(house);
		}
		assert_true(now() < end);
	}
	assert_true(house->ordered);
	assert_int_equal(house->broken, 0);
	close(fd);
	buf_fini(&frames);
	demolish(house);
}

static void a_connection_waits_while_the_router_is_behind(void **state)
{
	(void)state;
	pressure(1);
}

static void it_does_so_on_the_routers_own_thread(void **state)
{
	(void)state;
	pressure(0);
}

static void new_limits_are_everywhere_when_loop_configure_returns(void **state)
{
	(void)state;
	struct settings_limits limits = usual;
	struct house *house = build(2);
	int fds[3];
	for (int i = 0; i < 2; i++) {
		fds[i] = dial(house);
		wait_for(house, &house->opened, i + 1);
	}
	limits.idle_timeout = 0.1;
	limits.max_connections = 2;
	loop_configure(house->loop, &limits, NULL);
	fds[2] = dial(house);
	wait_for(house, &house->broken, 2); /* both were idle */
	uint8_t bytes[256];
	assert_true(recv(fds[2], bytes, sizeof(bytes), MSG_WAITALL) > 0); /* one too many: StreamEnd, then the end */
	assert_int_equal(recv(fds[2], bytes, 1, 0), 0);
	for (int i = 0; i < 3; i++) {
		close(fds[i]);
	}
	demolish(house);
}

static void stopping_closes_what_is_open(void **state)
{
	(void)state;
	struct house *house = build(2);
	int fds[4];
	for (int i = 0; i < 4; i++) {
		fds[i] = dial(house);
		wait_for(house, &house->opened, i + 1);
	}
	loop_stop(house->loop);
	assert_int_equal(loop_connections(house->loop), 0);
	for (int i = 0; i < 4; i++) {
		uint8_t byte;
		assert_int_equal(recv(fds[i], &byte, 1, 0), 0);
		close(fds[i]);
		loop_command(house->loop, COMMAND_SEND, house->conns[i], make_stanza(), NULL); /* to nobody */
	}
	demolish(house);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connections_are_spread_and_commands_find_them),
		cmocka_unit_test(a_connection_waits_while_the_router_is_behind),
		cmocka_unit_test(it_does_so_on_the_routers_own_thread),
		cmocka_unit_test(new_limits_are_everywhere_when_loop_configure_returns),
		cmocka_unit_test(stopping_closes_what_is_open),
	};
	log_setup(LOG_ERR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
