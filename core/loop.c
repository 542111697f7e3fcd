/* SPDX-License-Identifier: MIT */
/* The I/O loop: listeners, the table of connections, commands from the router and events to it. What happens on one
 * connection is in conn.c. */

#include "core/loop.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/conn.h"
#include "core/log.h"

#define ACCEPT_BATCH 64  /* connections taken in one go, so that those that are open get their turn */
#define SAMPLE_EVERY 0.25 /* seconds between looks at what peers have acknowledged */
#define ACCEPT_PAUSE 0.2 /* seconds without accepting when descriptors have run out */

struct listener {
	struct listener *next;
	struct loop *loop;
	struct ev_io io;
	struct ev_timer again;
	int tls;
	char address[56];
};

struct slot {
	struct conn *conn;   /* NULL: free */
	uint32_t generation; /* of the connection that is or was last here */
	uint32_t next_free;
};

struct loop {
	struct ev_loop *ev;
	struct mailbox inbox, *events;
	const struct settings *settings;
	struct tls_credentials *credentials;
	struct listener *listeners;
	struct slot *slots; /* the first is never used: handle 0 is none */
	uint32_t slot_count, first_free;
	size_t connections;
	struct conn *dirty, *sampled;
	struct ev_timer sample;
	struct conn_scratch scratch;
	bool full_told;
};

/* ---- what connections need ---- */

struct ev_loop *loop_ev(struct loop *loop)
{
	return loop->ev;
}

const struct settings *loop_settings(const struct loop *loop)
{
	return loop->settings;
}

struct conn_scratch *loop_scratch(struct loop *loop)
{
	return &loop->scratch;
}

struct tls_credentials *loop_credentials(struct loop *loop)
{
	return loop->credentials;
}

size_t loop_connections(const struct loop *loop)
{
	return loop->connections;
}

void loop_mark_dirty(struct loop *loop, struct conn *conn)
{
	if (!conn->dirty) {
		conn->dirty = true;
		conn->dirty_next = loop->dirty;
		loop->dirty = conn;
	}
}

void loop_sample(struct loop *loop, struct conn *conn)
{
	if (conn->sampled_at) {
		return;
	}
	if (!loop->sampled) {
		ev_timer_again(loop->ev, &loop->sample);
	}
	conn->sampled_next = loop->sampled;
	conn->sampled_at = &loop->sampled;
	if (loop->sampled) {
		loop->sampled->sampled_at = &conn->sampled_next;
	}
	loop->sampled = conn;
}

void loop_unsample(struct conn *conn)
{
	if (!conn->sampled_at) {
		return;
	}
	*conn->sampled_at = conn->sampled_next;
	if (conn->sampled_next) {
		conn->sampled_next->sampled_at = conn->sampled_at;
	}
	conn->sampled_at = NULL;
}

static void on_sample(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)events;
	struct loop *loop = timer->data;
	struct conn *conn = loop->sampled;
	while (conn) {
		struct conn *next = conn->sampled_next;
		conn_sample(conn);
		conn = next;
	}
	if (!loop->sampled) {
		ev_timer_stop(ev, timer);
	}
}

void loop_emit(struct loop *loop, struct event *event)
{
	mailbox_put(loop->events, &event->mail);
}

void event_free(struct event *event)
{
	if (event->stanza) {
		stk_stanza_unref(event->stanza); /* the event lies in it */
	} else {
		free(event);
	}
}

/* ---- the table ---- */

static int grow_slots(struct loop *loop)
{
	uint32_t count = loop->slot_count ? loop->slot_count * 2 : 64;
	struct slot *slots = realloc(loop->slots, count * sizeof(*slots));
	if (!slots) {
		return -ENOMEM;
	}
	loop->slots = slots;
	for (uint32_t i = count; i-- > loop->slot_count;) {
		slots[i] = (struct slot){ .next_free = loop->first_free };
		loop->first_free = i ? i : loop->first_free;
	}
	loop->slot_count = count;
	return 0;
}

static struct conn *find(struct loop *loop, uint64_t id)
{
	uint32_t i = (uint32_t)id;
	bool live = i < loop->slot_count && loop->slots[i].conn && loop->slots[i].generation == (uint32_t)(id >> 32);
	return live ? loop->slots[i].conn : NULL;
}

/* A handle for a new connection, or CONN_NONE: out of memory. */
static uint64_t take_slot(struct loop *loop)
{
	if (!loop->first_free && grow_slots(loop) < 0) {
		return CONN_NONE;
	}
	uint32_t i = loop->first_free;
	return (uint64_t)(loop->slots[i].generation + 1) << 32 | i;
}

static void undirty(struct loop *loop, struct conn *conn)
{
	for (struct conn **at = &loop->dirty; *at; at = &(*at)->dirty_next) {
		if (*at == conn) {
			*at = conn->dirty_next;
			return;
		}
	}
}

void loop_remove(struct loop *loop, struct conn *conn)
{
	uint32_t i = (uint32_t)conn->id;
	if (conn->dirty) {
		undirty(loop, conn);
	}
	loop_unsample(conn);
	loop->slots[i].conn = NULL;
	loop->slots[i].next_free = loop->first_free;
	loop->first_free = i;
	loop->connections--;
	conn_free(conn);
}

/* ---- accepting ---- */

static void print_address(const struct sockaddr_storage *peer, char *out, size_t size)
{
	char text[INET6_ADDRSTRLEN] = "?";
	if (peer->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)peer;
		inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
		snprintf(out, size, "[%s]:%u", text, ntohs(v6->sin6_port));
	} else {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)peer;
		inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
		snprintf(out, size, "%s:%u", text, ntohs(v4->sin_port));
	}
}

static void add_connection(struct listener *listener, int fd, const struct sockaddr_storage *peer)
{
	struct loop *loop = listener->loop;
	if (loop->connections >= (size_t)loop->settings->limits.max_connections) {
		if (!loop->full_told) {
			log_write(LOG_WARNING, "listen: max-connections (%zu) is reached: new connections are refused", loop->connections);
		}
		loop->full_told = true;
		close(fd);
		return;
	}
	loop->full_told = false;
	struct event *event = calloc(1, sizeof(*event));
	uint64_t id = event ? take_slot(loop) : CONN_NONE;
	struct conn *conn = NULL;
	if (id == CONN_NONE) {
		close(fd);
	} else {
		conn = conn_new(loop, id, fd, listener->tls);
	}
	if (!conn) {
		log_write(LOG_WARNING, "listen: out of memory for a connection");
		free(event);
		return;
	}
	struct slot *slot = &loop->slots[(uint32_t)id];
	loop->first_free = slot->next_free;
	slot->generation = (uint32_t)(id >> 32);
	slot->conn = conn;
	loop->connections++;
	event->mail.kind = EVENT_OPENED;
	event->conn = id;
	event->tls = listener->tls;
	print_address(peer, event->address, sizeof(event->address));
	loop_emit(loop, event);
}

static void on_accept_again(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)events;
	struct listener *listener = timer->data;
	ev_io_start(ev, &listener->io);
}

static void on_accept(struct ev_loop *ev, struct ev_io *io, int events)
{
	(void)events;
	struct listener *listener = io->data;
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		struct sockaddr_storage peer;
		socklen_t len = sizeof(peer);
		int fd = accept4(io->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			add_connection(listener, fd, &peer);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			log_write(LOG_WARNING, "listen: no new connections for a moment: %s", strerror(errno));
			ev_io_stop(ev, io);
			ev_timer_set(&listener->again, ACCEPT_PAUSE, 0);
			ev_timer_start(ev, &listener->again);
			return;
		} else if (errno == EAGAIN) {
			return;
		}
	}
}

static socklen_t make_address(const struct settings_listen *listen, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)out;
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, listen->address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)listen->port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, listen->address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)listen->port);
		return sizeof(*v6);
	}
	return 0;
}

static int open_socket(const struct settings_listen *conf, struct sockaddr_storage *address)
{
	socklen_t len = make_address(conf, address);
	if (!len) {
		return -EINVAL;
	}
	int on = 1;
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return -errno;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address->ss_family == AF_INET6) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	}
	if (bind(fd, (struct sockaddr *)address, len) < 0 || listen(fd, (int)conf->backlog) < 0 ||
	    getsockname(fd, (struct sockaddr *)address, &len) < 0) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

int loop_listen(struct loop *loop, const struct settings_listen *listen, char *err, size_t errlen)
{
	static const char *const modes[] = { "off", "optional", "required", "direct" };
	struct sockaddr_storage address;
	struct listener *listener = calloc(1, sizeof(*listener));
	int fd = listener ? open_socket(listen, &address) : -ENOMEM;
	if (fd < 0) {
		snprintf(err, errlen, "listen: %s:%d: %s%s", listen->address, (int)listen->port, strerror(-fd),
		         fd == -EADDRINUSE ? "; is another server running there?" : "");
		free(listener);
		return fd;
	}
	*listener = (struct listener){ .next = loop->listeners, .loop = loop, .tls = listen->tls };
	loop->listeners = listener;
	ev_io_init(&listener->io, on_accept, fd, EV_READ);
	listener->io.data = listener;
	ev_timer_init(&listener->again, on_accept_again, ACCEPT_PAUSE, 0);
	listener->again.data = listener;
	ev_io_start(loop->ev, &listener->io);
	print_address(&address, listener->address, sizeof(listener->address));
	log_write(LOG_NOTICE, "listen: %s: tls %s", listener->address, modes[listen->tls]);
	return 0;
}

void loop_each_listener(const struct loop *loop, bool (*each)(const char *, enum stk_tls, void *), void *arg)
{
	_Static_assert((int)LISTEN_TLS_DIRECT == (int)STK_TLS_DIRECT, "modules are told the modes by the same numbers");
	const struct listener *listener = loop->listeners;
	while (listener && each(listener->address, (enum stk_tls)listener->tls, arg)) {
		listener = listener->next;
	}
}

void loop_stop_listening(struct loop *loop)
{
	while (loop->listeners) {
		struct listener *listener = loop->listeners;
		loop->listeners = listener->next;
		ev_io_stop(loop->ev, &listener->io);
		ev_timer_stop(loop->ev, &listener->again);
		close(listener->io.fd);
		free(listener);
	}
}

/* ---- commands ---- */

static struct command *new_command(enum command_kind kind, uint64_t conn, struct stk_stanza *stanza, size_t extra)
{
	struct command *command = malloc(sizeof(*command) + extra);
	if (!command) {
		stk_stanza_unref(stanza);
		return NULL;
	}
	*command = (struct command){ .mail.kind = (int)kind, .conn = conn, .stanza = stanza };
	return command;
}

int loop_send_tracked(struct loop *loop, uint64_t conn, struct stk_stanza *stanza, uint64_t mark, bool tell_sent)
{
	struct command *command = new_command(COMMAND_SEND, conn, stanza, 0);
	if (!command) {
		return -ENOMEM;
	}
	command->mark = mark;
	command->tell_sent = tell_sent;
	mailbox_put(&loop->inbox, &command->mail);
	return 0;
}

int loop_command(struct loop *loop, enum command_kind kind, uint64_t conn, struct stk_stanza *stanza, const char *self)
{
	size_t size = self ? strlen(self) + 1 : 0;
	struct command *command = new_command(kind, conn, stanza, size);
	if (!command) {
		return -ENOMEM;
	}
	if (self) {
		memcpy(command->self, self, size);
	}
	mailbox_put(&loop->inbox, &command->mail);
	return 0;
}

bool loop_run_commands(struct loop *loop)
{
	struct mail *mail = mailbox_take(&loop->inbox);
	bool any = mail != NULL;
	while (mail) {
		struct command *command = (struct command *)mail;
		mail = mail->next;
		struct conn *conn = find(loop, command->conn);
		if (conn) {
			conn_command(conn, command);
		}
		stk_stanza_unref(command->stanza);
		free(command);
	}
	return any;
}

void loop_flush(struct loop *loop)
{
	while (loop->dirty) {
		struct conn *conn = loop->dirty;
		loop->dirty = conn->dirty_next;
		conn->dirty = false;
		conn_flush(conn);
	}
}

/* ---- life ---- */

struct loop *loop_new(struct ev_loop *ev, struct mailbox *events, const struct settings *settings,
                      struct tls_credentials *credentials)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop) {
		return NULL;
	}
	*loop = (struct loop){ .ev = ev, .events = events, .settings = settings };
	loop->scratch.raw = malloc(CONN_RAW_SIZE);
	loop->scratch.plain = malloc(CONN_PLAIN_SIZE);
	if (!loop->scratch.raw || !loop->scratch.plain || grow_slots(loop) < 0) {
		free(loop->scratch.raw);
		free(loop->scratch.plain);
		free(loop);
		return NULL;
	}
	loop->credentials = tls_credentials_ref(credentials);
	ev_timer_init(&loop->sample, on_sample, SAMPLE_EVERY, SAMPLE_EVERY);
	loop->sample.data = loop;
	mailbox_init(&loop->inbox, ev);
	return loop;
}

void loop_set_credentials(struct loop *loop, struct tls_credentials *credentials)
{
	tls_credentials_unref(loop->credentials);
	loop->credentials = tls_credentials_ref(credentials);
}

void loop_free(struct loop **loop_ptr)
{
	struct loop *loop = *loop_ptr;
	if (!loop) {
		return;
	}
	*loop_ptr = NULL;
	loop_stop_listening(loop);
	for (uint32_t i = 1; i < loop->slot_count; i++) {
		if (loop->slots[i].conn) {
			loop_remove(loop, loop->slots[i].conn);
		}
	}
	loop_run_commands(loop);
	ev_timer_stop(loop->ev, &loop->sample);
	mailbox_fini(&loop->inbox);
	tls_credentials_unref(loop->credentials);
	buf_fini(&loop->scratch.frame);
	free(loop->scratch.raw);
	free(loop->scratch.plain);
	free(loop->slots);
	free(loop);
}
