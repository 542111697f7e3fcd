/* SPDX-License-Identifier: MIT */
/* One connection: bytes in through TLS into frames and stanzas, stanzas out through frames and TLS into bytes. It
 * decides nothing of the protocol but where reading has to stop; sessions and their answers are the router's. */

#include "core/conn.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <startalkd/module.h>

#include "core/clock.h"
#include "core/log.h"
#include "proto/check.h"
#include "proto/codec.h"
#include "proto/frame.h"

#define END_BOUND  2.0  /* seconds that the last bytes may take to be acknowledged */
#define TRACKS_MAX 4096 /* tracked stanzas that are told apart; beyond that several count as one, the last */
#define UNDER_WAY  (256 * 1024) /* weight of the events that the router has not dealt with, before reading waits */
#define OUT_BATCH  (64 * 1024) /* memory of an output buffer that is kept while the connection is busy */

/* ---- events ---- */

static void emit(struct conn *conn, enum event_kind kind, int code, const char *why)
{
	struct event *event = calloc(1, sizeof(*event));
	if (!event) {
		log_write(LOG_ERR, "conn: out of memory");
		return;
	}
	event->mail.kind = kind;
	event->conn = conn->id;
	event->code = code;
	event->why = why;
	loop_emit(conn->loop, event);
}

static void watch(struct conn *conn, int events)
{
	struct ev_loop *ev = loop_ev(conn->loop);
	if (ev_is_active(&conn->io) && conn->io.events == events) {
		return;
	}
	ev_io_stop(ev, &conn->io);
	if (events) {
		ev_io_set(&conn->io, conn->fd, events);
		ev_io_start(ev, &conn->io);
	}
}

/* Something waits for the router. */
static bool is_held(const struct conn *conn)
{
	return conn->paused || link_is_in(&conn->stalled);
}

static bool may_read(const struct conn *conn)
{
	return !is_held(conn) && conn->state != CONN_BROKEN && conn->state != CONN_TLS_WAIT;
}

/* Reads unless something waits for the router; writes when the socket was full. Whoever waits for an answer sends nothing meanwhile, so
 * the kernel is told to stop only when bytes come all the same: see on_io(). */
static void rewatch(struct conn *conn)
{
	bool watched = ev_is_active(&conn->io) && conn->io.events & EV_READ;
	bool read = may_read(conn) || (watched && conn->state != CONN_BROKEN);
	watch(conn, (read ? EV_READ : 0) | (conn->out.len && !link_is_in(&conn->dirty) ? EV_WRITE : 0));
}

/* The fault is told once; the router answers with a StreamEnd, which can still be sent. */
static void break_off(struct conn *conn, int code, const char *why)
{
	if (conn->state == CONN_BROKEN || conn->state == CONN_ENDING) {
		return;
	}
	conn->state = CONN_BROKEN;
	link_remove(&conn->stalled);
	buf_fini(&conn->in);
	buf_fini(&conn->raw);
	emit(conn, EVENT_BROKEN, code, why);
}

static void gone(struct conn *conn, const char *why)
{
	if (conn->state != CONN_ENDING) {
		emit(conn, EVENT_CLOSED, 0, why);
	}
	loop_remove(conn->loop, conn);
}

/* ---- output ---- */

static void append_out(struct conn *conn, const void *data, size_t n)
{
	if (buf_append(&conn->out, data, n) < 0) {
		break_off(conn, 102, "out of memory for output");
		return;
	}
	loop_mark_dirty(conn->loop, conn);
}

/* GnuTLS hands over whole records; they are kept until the end of the iteration and leave together. */
static ssize_t push(gnutls_transport_ptr_t ptr, const void *data, size_t n)
{
	struct conn *conn = ptr;
	if (buf_append(&conn->out, data, n) < 0) {
		gnutls_transport_set_errno(conn->tls, ENOMEM);
		return -1;
	}
	loop_mark_dirty(conn->loop, conn);
	return (ssize_t)n;
}

static ssize_t pull(gnutls_transport_ptr_t ptr, void *data, size_t n)
{
	struct conn *conn = ptr;
	if (!conn->pull_len) {
		gnutls_transport_set_errno(conn->tls, EAGAIN);
		return -1;
	}
	n = n < conn->pull_len ? n : conn->pull_len;
	memcpy(data, conn->pull, n);
	conn->pull += n;
	conn->pull_len -= n;
	return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms)
{
	(void)ms;
	return ((struct conn *)ptr)->pull_len > 0;
}

/* One call, one record, as long as the frame fits into one: never corked, clients count on it. */
static void send_frame(struct conn *conn, const uint8_t *data, size_t n)
{
	if (!conn->tls) {
		append_out(conn, data, n);
		return;
	}
	while (n) {
		ssize_t sent = gnutls_record_send(conn->tls, data, n);
		if (sent <= 0) {
			break_off(conn, 102, "TLS cannot send");
			return;
		}
		data += sent;
		n -= (size_t)sent;
	}
}

static size_t frame_limit(const struct conn *conn)
{
	const struct settings_limits *limits = loop_limits(conn->loop);
	return (size_t)(conn->logged_in ? limits->max_frame : limits->max_frame_login);
}

static struct codec_context codec_of(const struct conn *conn, enum codec_side side)
{
	return (struct codec_context){ .self = conn->self, .inflate_max = frame_limit(conn), .side = side };
}

/* The bytes of STANZA for CONN, in the loop's buffer. One that goes to many, as a message to all devices of a user, is encoded once: with both addresses
 * in it nothing of the frame is the connection's. */
static int encode(struct conn *conn, const struct stk_stanza *stanza)
{
	struct conn_scratch *scratch = loop_scratch(conn->loop);
	struct codec_context context = codec_of(conn, CODEC_SERVER);
	if (stanza == scratch->encoded) {
		return 0;
	}
	context.now_ms = scratch->now_ms;
	buf_consume(&scratch->frame, scratch->frame.len);
	int rc = codec_encode(&context, stanza, &scratch->frame);
	scratch->encoded = rc == 0 && stk_stanza_from(stanza) && stk_stanza_to(stanza) ? stanza : NULL;
	return rc;
}

static void send_stanza(struct conn *conn, const struct stk_stanza *stanza)
{
	struct conn_scratch *scratch = loop_scratch(conn->loop);
	struct buf *frame = &scratch->frame;
	int rc = encode(conn, stanza);
	if (rc < 0) {
		log_write(LOG_WARNING, "codec: stanza for %s: not sent: %s", conn->self ? conn->self : "a new connection",
		          strerror(-rc));
	} else if (frame->len) {
		send_frame(conn, buf_data(frame), frame->len);
	}
	if (frame->cap > OUT_BATCH) {
		buf_fini(frame);
		scratch->encoded = NULL;
	}
	if (conn->state != CONN_ENDING &&
	    conn->out.len > (size_t)loop_limits(conn->loop)->max_send_queue) {
		break_off(conn, 102, "the send queue is full: the client does not read");
		rewatch(conn);
	}
}

/* ---- tracks: what has become of stanzas that were sent ---- */

static void emit_mark(struct conn *conn, enum event_kind kind, uint64_t mark)
{
	struct event *event = calloc(1, sizeof(*event));
	if (!event) {
		log_write(LOG_ERR, "conn: out of memory");
		return;
	}
	event->mail.kind = (int)kind;
	event->conn = conn->id;
	event->mark = mark;
	loop_emit(conn->loop, event);
}

/* The stanza sent last is tracked from now on. */
static void add_track(struct conn *conn, uint64_t mark, bool tell_sent)
{
	if (conn->track_n == conn->track_cap && conn->track_cap < TRACKS_MAX) {
		unsigned cap = conn->track_cap ? conn->track_cap * 2 : 8;
		struct track *tracks = realloc(conn->tracks, cap * sizeof(*tracks));
		if (tracks) {
			conn->tracks = tracks;
			conn->track_cap = cap;
		}
	}
	struct track track = { .offset = conn->written + conn->out.len, .mark = mark, .tell_sent = tell_sent };
	if (conn->track_n < conn->track_cap) {
		conn->tracks[conn->track_n++] = track;
	} else if (conn->track_n) {
		track.tell_sent |= conn->tracks[conn->track_n - 1].tell_sent;
		conn->tracks[conn->track_n - 1] = track;
		conn->track_sent -= conn->track_sent == conn->track_n;
	}
	loop_sample(conn->loop, conn);
	loop_mark_dirty(conn->loop, conn); /* it may have no bytes: then it is sent with those before it */
}

static void tell_sent(struct conn *conn)
{
	uint64_t mark = 0;
	while (conn->track_sent < conn->track_n && conn->tracks[conn->track_sent].offset <= conn->written) {
		const struct track *track = &conn->tracks[conn->track_sent++];
		mark = track->tell_sent ? track->mark : mark;
	}
	if (mark) {
		emit_mark(conn, EVENT_SENT, mark);
	}
}

/* A frame has come after the peer's kernel was seen to have bytes: whoever sent it has these. Told before the frame itself. */
static void tell_delivered(struct conn *conn)
{
	unsigned n = 0;
	while (n < conn->track_sent && conn->tracks[n].offset <= conn->acked_then) {
		n++;
	}
	if (!n) {
		return;
	}
	emit_mark(conn, EVENT_DELIVERED, conn->tracks[n - 1].mark);
	conn->track_n -= n;
	conn->track_sent -= n;
	memmove(conn->tracks, conn->tracks + n, conn->track_n * sizeof(*conn->tracks));
	if (!conn->track_n) {
		free(conn->tracks);
		conn->tracks = NULL;
		conn->track_cap = 0;
	}
}

void conn_sample(struct conn *conn)
{
	int unacknowledged = 0;
	if (!conn->track_n || conn->acked >= conn->tracks[conn->track_n - 1].offset) {
		link_remove(&conn->sampled);
	} else if (ioctl(conn->fd, SIOCOUTQ, &unacknowledged) == 0 && unacknowledged >= 0) {
		conn->acked = conn->written - (uint64_t)unacknowledged;
	}
}

void conn_flush(struct conn *conn)
{
	while (conn->out.len) {
		ssize_t n = send(conn->fd, buf_data(&conn->out), conn->out.len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0 && errno == EAGAIN) {
			break;
		}
		if (n < 0) {
			gone(conn, strerror(errno));
			return;
		}
		buf_consume(&conn->out, (size_t)n);
		conn->written += (uint64_t)n;
	}
	if (!conn->out.len) {
		buf_fini(&conn->out);
	}
	tell_sent(conn);
	rewatch(conn);
}

/* ---- input ---- */

/* Has the router more from this connection, or from all of the loop's, than it should? Then it deals with that first. */
static void hold_back(struct conn *conn, uint64_t before)
{
	uint64_t emitted = loop_emitted(conn->loop);
	if (loop_is_settled(conn->loop, conn->emitted)) {
		conn->under_way = 0;
	}
	conn->under_way += emitted - before;
	conn->emitted = emitted;
	if (conn->under_way > UNDER_WAY || loop_is_full(conn->loop)) {
		loop_stall(conn->loop, conn);
	}
}

/* ---- rates: what a connection sends may come so fast, and what comes faster waits in the peer's own buffers ---- */

/* One of two buckets, as the time at which it will be full again: AMOUNT is taken out. */
static void take_out(double *at, double now, double amount, int64_t rate)
{
	if (rate) {
		*at = (*at > now ? *at : now) + amount / (double)rate;
	}
}

/* How long until both buckets are full; more than rate-burst: they are overdrawn. */
static double owes(const struct conn *conn, double now)
{
	const struct settings_limits *limits = loop_limits(conn->loop);
	double stanzas = limits->stanza_rate ? conn->stanzas_at - now : 0, bytes = limits->byte_rate ? conn->bytes_at - now : 0;
	return stanzas > bytes ? stanzas : bytes;
}

/* A frame of N bytes has come. Who stays over the rates is told apart from who was so once by never being half way back. */
static void charge(struct conn *conn, size_t n)
{
	const struct settings_limits *limits = loop_limits(conn->loop);
	double now = loop_scratch(conn->loop)->now, before = owes(conn, now);
	take_out(&conn->stanzas_at, now, 1, limits->stanza_rate);
	take_out(&conn->bytes_at, now, (double)n, limits->byte_rate);
	if (before < limits->rate_burst / 2) {
		conn->slow_since = 0;
	}
	if (owes(conn, now) <= limits->rate_burst) {
		return;
	}
	if (conn->slow_since <= 0) {
		conn->slow_since = now;
		log_write(LOG_DEBUG, "conn: %s: slowed down: it is over stanza-rate or byte-rate", conn->self ? conn->self : "new");
	} else if (limits->rate_patience > 0 && now - conn->slow_since > limits->rate_patience) {
		break_off(conn, 102, "it sends too much for too long");
		return;
	}
	conn->slow = true;
	loop_slow(conn->loop, conn);
}

static void emit_stanza(struct conn *conn, struct stk_stanza *stanza, const char *from)
{
	struct event *event = arena_alloc(stanza_arena(stanza), sizeof(*event));
	if (!event) {
		stk_stanza_unref(stanza);
		break_off(conn, 102, "out of memory for a stanza");
		return;
	}
	*event = (struct event){ .mail.kind = EVENT_STANZA, .conn = conn->id, .stanza = stanza, .from = from };
	conn->paused = !conn->logged_in;
	if (stanza_element(stanza) == STANZA_STARTTLS && !conn->tls) {
		conn->state = CONN_TLS_WAIT;
		conn->paused = true;
	}
	uint64_t before = loop_emitted(conn->loop);
	loop_emit(conn->loop, event); /* from now on it is the router's */
	hold_back(conn, before);
}

/* A whole ProtoHeader. */
static void take_frame(struct conn *conn, const uint8_t *data, size_t n)
{
	const struct settings_limits *limits = loop_limits(conn->loop);
	const struct check_limits check = { .depth = (size_t)limits->max_depth, .headers = (size_t)limits->max_headers,
	                                    .others = (size_t)limits->max_parts, .fields = (size_t)limits->max_fields };
	struct codec_context context = codec_of(conn, CODEC_CLIENT);
	context.limits = &check;
	struct stk_stanza *stanza = NULL;
	const char *from = NULL, *why = NULL;
	int rc = codec_decode(&context, data, n, &stanza, &from, &why);
	if (rc < 0) {
		break_off(conn, 222, why ? why : rc == -EMSGSIZE ? "the frame inflates past the limit" : "out of memory");
	} else if (stanza) {
		emit_stanza(conn, stanza, from);
	} else {
		log_write(LOG_DEBUG, "conn: %s: a frame that stands for nothing", conn->self ? conn->self : "new");
	}
}

/* Cuts DATA into frames while nothing stops it; returns how many bytes were used. */
static size_t cut_frames(struct conn *conn, const uint8_t *data, size_t n)
{
	size_t used = 0;
	while (used < n && !is_held(conn) && conn->state == CONN_OPEN) {
		size_t len = 0;
		int prefix = frame_prefix(data + used, n - used, &len);
		if (prefix < 0) {
			break_off(conn, 222, "a length prefix of more than 4 bytes");
		} else if (prefix > 0 && len > frame_limit(conn)) {
			break_off(conn, 222, conn->logged_in ? "a frame over max-frame" : "a frame over max-frame-login");
		}
		if (prefix <= 0 || conn->state != CONN_OPEN || len > n - used - (size_t)prefix) {
			break;
		}
		used += (size_t)prefix;
		if (conn->track_n) {
			tell_delivered(conn);
		}
		if (len) { /* a frame of length 0 means nothing */
			take_frame(conn, data + used, len);
		}
		used += len;
		if (conn->state == CONN_OPEN) {
			charge(conn, (size_t)prefix + len);
		}
	}
	return used;
}

static void feed_frames(struct conn *conn, const uint8_t *data, size_t n)
{
	loop_scratch(conn->loop)->now = clock_now();
	if (!conn->in.len) {
		size_t used = cut_frames(conn, data, n);
		data += used;
		n -= used;
	}
	if (conn->state == CONN_TLS_WAIT && n) {
		break_off(conn, 222, "bytes in clear behind StartTLS");
	}
	if (conn->state == CONN_BROKEN || conn->state == CONN_ENDING) {
		return;
	}
	if (n && buf_append(&conn->in, data, n) < 0) {
		break_off(conn, 102, "out of memory for input");
		return;
	}
	if (conn->in.len && !is_held(conn)) {
		size_t used = cut_frames(conn, buf_data(&conn->in), conn->in.len);
		if (conn->state == CONN_BROKEN) {
			return;
		}
		buf_consume(&conn->in, used);
	}
	if (conn->state == CONN_TLS_WAIT && conn->in.len) {
		break_off(conn, 222, "bytes in clear behind StartTLS");
	} else if (!conn->in.len) {
		buf_fini(&conn->in);
	}
}

/* False: the connection is gone. */
static bool shake_hands(struct conn *conn)
{
	int rc;
	do {
		rc = gnutls_handshake(conn->tls);
	} while (rc < 0 && rc != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(rc));
	if (rc == 0) {
		conn->state = CONN_OPEN;
		emit(conn, EVENT_SECURED, 0, NULL);
	} else if (rc != GNUTLS_E_AGAIN) {
		gnutls_alert_send_appropriate(conn->tls, rc);
		if (conn->out.len) { /* the alert, as far as the socket takes it */
			ssize_t sent = send(conn->fd, buf_data(&conn->out), conn->out.len, MSG_NOSIGNAL);
			(void)sent;
		}
		gone(conn, gnutls_strerror(rc));
		return false;
	}
	return true;
}

/* Takes records out of what was pulled. False: the connection is gone. */
static bool take_records(struct conn *conn)
{
	uint8_t *plain = loop_scratch(conn->loop)->plain;
	while (conn->state == CONN_OPEN && !is_held(conn)) {
		ssize_t n = gnutls_record_recv(conn->tls, plain, CONN_PLAIN_SIZE);
		if (n > 0) {
			feed_frames(conn, plain, (size_t)n);
		} else if (n == GNUTLS_E_AGAIN) {
			return true;
		} else if (n != GNUTLS_E_INTERRUPTED) {
			gone(conn, n == 0 ? "closed by the peer" : gnutls_strerror((int)n));
			return false;
		}
	}
	return true;
}

/* Runs TLS over the bytes DATA from the socket, keeping what a pause leaves over. False: the connection is gone. */
static bool feed_tls(struct conn *conn, const uint8_t *data, size_t n)
{
	bool kept = conn->raw.len > 0;
	if (kept && n && buf_append(&conn->raw, data, n) < 0) {
		break_off(conn, 102, "out of memory for input");
		return true;
	}
	conn->pull = kept ? buf_data(&conn->raw) : data;
	conn->pull_len = kept ? conn->raw.len : n;
	if ((conn->state == CONN_HANDSHAKE && !shake_hands(conn)) || !take_records(conn)) {
		return false;
	}
	if (conn->state == CONN_BROKEN || conn->state == CONN_ENDING) {
		conn->pull_len = 0;
	} else if (kept) {
		buf_consume(&conn->raw, conn->raw.len - conn->pull_len);
	} else if (conn->pull_len && buf_append(&conn->raw, conn->pull, conn->pull_len) < 0) {
		break_off(conn, 102, "out of memory for input");
	}
	if (!conn->raw.len) {
		buf_fini(&conn->raw);
	}
	conn->pull_len = 0;
	return true;
}

static void read_ready(struct conn *conn)
{
	uint8_t *raw = loop_scratch(conn->loop)->raw;
	if (loop_is_full(conn->loop) && conn->state == CONN_OPEN) {
		hold_back(conn, loop_emitted(conn->loop));
		rewatch(conn);
		return;
	}
	ssize_t n = recv(conn->fd, raw, CONN_RAW_SIZE, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	if (n <= 0) {
		gone(conn, n == 0 ? "closed by the peer" : strerror(errno));
		return;
	}
	conn->last_in = loop_turn(conn->loop);
	if (conn->state == CONN_ENDING) {
		return; /* nobody will read it */
	}
	conn->acked_then = conn->acked;
	if (!conn->tls) {
		feed_frames(conn, raw, (size_t)n);
	} else if (!feed_tls(conn, raw, (size_t)n)) {
		return;
	}
	if (conn->track_n) {
		conn_sample(conn);
	}
	rewatch(conn);
}

static void on_io(struct ev_loop *ev, struct ev_io *io, int events)
{
	(void)ev;
	struct conn *conn = io->data;
	struct loop *loop = conn->loop;
	if (events & EV_WRITE) {
		loop_mark_dirty(loop, conn);
	}
	if (events & EV_READ && !may_read(conn)) {
		watch(conn, conn->io.events & EV_WRITE);
	} else if (events & EV_READ) {
		read_ready(conn); /* it may be gone now */
	}
	loop_hand_on(loop);
}

/* ---- time ---- */

static void close_ended(struct conn *conn)
{
	if (!conn->tls) {
		struct linger reset = { .l_onoff = 1 };
		setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	}
	loop_remove(conn->loop, conn);
}

void conn_poll_end(struct conn *conn)
{
	int unacknowledged = 0;
	bool waiting = conn->out.len || (ioctl(conn->fd, SIOCOUTQ, &unacknowledged) == 0 && unacknowledged > 0);
	if (!waiting || clock_now() >= conn->end_at) {
		close_ended(conn);
	}
}

/* Bytes that came in the course of a turn came at its end for all that is known: one turn more. */
static void wait_for_input(struct conn *conn)
{
	loop_wait_turn(conn->loop, conn, conn->last_in + CONN_IDLE_TURNS + 1);
}

void conn_turn(struct conn *conn)
{
	if (conn->slow || loop_turn(conn->loop) - conn->last_in <= CONN_IDLE_TURNS) {
		wait_for_input(conn);
		return;
	}
	break_off(conn, 102, "nothing was received for idle-timeout");
	rewatch(conn);
}

/* ---- commands ---- */

static int start_tls(struct conn *conn)
{
	conn->credentials = tls_credentials_ref(loop_credentials(conn->loop));
	int rc = tls_session_new(conn->credentials, &conn->tls);
	if (rc < 0) {
		return rc;
	}
	gnutls_transport_set_ptr(conn->tls, conn);
	gnutls_transport_set_push_function(conn->tls, push);
	gnutls_transport_set_pull_function(conn->tls, pull);
	gnutls_transport_set_pull_timeout_function(conn->tls, pull_timeout);
	conn->state = CONN_HANDSHAKE;
	return 0;
}

static void proceed(struct conn *conn, const struct stk_stanza *stanza)
{
	uint8_t byte;
	if (conn->state != CONN_TLS_WAIT) {
		return;
	}
	if (recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0) {
		break_off(conn, 222, "bytes in clear behind StartTLS");
		return;
	}
	send_stanza(conn, stanza);
	conn->paused = false;
	if (start_tls(conn) < 0) {
		break_off(conn, 102, "out of memory for TLS");
	}
	rewatch(conn);
}

/* Goes on behind a pause: first with frames that wait in clear text, then with bytes that TLS has not seen. */
static void go_on(struct conn *conn)
{
	if (is_held(conn) || conn->state == CONN_TLS_WAIT) {
		return;
	}
	if (conn->in.len) {
		feed_frames(conn, NULL, 0);
	}
	if (conn->tls && !is_held(conn) && conn->state == CONN_OPEN && !feed_tls(conn, NULL, 0)) {
		return;
	}
	rewatch(conn);
}

static void resume(struct conn *conn)
{
	if (conn->paused && conn->state != CONN_TLS_WAIT) {
		conn->paused = false;
		go_on(conn);
	}
}

void conn_unslow(struct conn *conn)
{
	const struct settings_limits *limits = loop_limits(conn->loop);
	if (owes(conn, clock_now()) > limits->rate_burst) {
		loop_slow(conn->loop, conn);
		return;
	}
	conn->slow = false;
	conn->last_in = loop_turn(conn->loop); /* what it has sent meanwhile was not looked at */
	if (loop_is_settled(conn->loop, conn->emitted)) {
		go_on(conn);
	} else {
		loop_stall(conn->loop, conn);
	}
}

void conn_unstall(struct conn *conn)
{
	go_on(conn);
}

static void set_self(struct conn *conn, const char *self)
{
	char *copy = strdup(self);
	if (!copy) {
		break_off(conn, 102, "out of memory");
		return;
	}
	free(conn->self);
	conn->self = copy;
}

static void end(struct conn *conn, const struct stk_stanza *stanza)
{
	if (conn->state == CONN_ENDING) {
		return;
	}
	bool can_send = conn->state != CONN_HANDSHAKE; /* in a handshake no frame can be sent */
	conn->state = CONN_ENDING;
	conn->paused = false;
	link_remove(&conn->stalled);
	buf_fini(&conn->in);
	buf_fini(&conn->raw);
	if (stanza && can_send) {
		send_stanza(conn, stanza);
	}
	conn->end_at = clock_now() + END_BOUND;
	loop_wait_end(conn->loop, conn);
	rewatch(conn);
}

void conn_command(struct conn *conn, const struct command *command)
{
	switch ((enum command_kind)command->mail.kind) {
	case COMMAND_SEND:
		if (conn->state != CONN_BROKEN && conn->state != CONN_ENDING && conn->state != CONN_HANDSHAKE) {
			send_stanza(conn, command->stanza);
			if (command->mark) {
				add_track(conn, command->mark, command->tell_sent);
			}
		}
		break;
	case COMMAND_HOLD:
		conn->paused = true;
		rewatch(conn);
		break;
	case COMMAND_RESUME: resume(conn); break;
	case COMMAND_PROCEED: proceed(conn, command->stanza); break;
	case COMMAND_LOGIN: conn->logged_in = true; set_self(conn, command->self); break;
	case COMMAND_SELF: set_self(conn, command->self); break;
	case COMMAND_END: end(conn, command->stanza); break;
	}
}

/* ---- life ---- */

struct conn *conn_new(struct loop *loop, uint64_t id, int fd, int tls_mode)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	if (!conn) {
		close(fd);
		return NULL;
	}
	*conn = (struct conn){ .loop = loop, .id = id, .fd = fd, .last_in = loop_turn(loop) };
	ev_io_init(&conn->io, on_io, fd, EV_READ);
	conn->io.data = conn;
	if (tls_mode == LISTEN_TLS_DIRECT && start_tls(conn) < 0) {
		conn_free(conn);
		return NULL;
	}
	wait_for_input(conn);
	rewatch(conn);
	return conn;
}

void conn_refuse(int fd, int tls_mode, const char *why)
{
	struct stk_stanza *end = tls_mode == LISTEN_TLS_DIRECT ? NULL : stanza_stream_end(102, why);
	struct codec_context context = { .now_ms = stk_now_ms(), .side = CODEC_SERVER };
	struct buf frame = { 0 };
	if (end && codec_encode(&context, end, &frame) == 0 && frame.len) {
		ssize_t sent = send(fd, buf_data(&frame), frame.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)sent;
	}
	shutdown(fd, SHUT_WR);
	buf_fini(&frame);
	stk_stanza_unref(end);
	close(fd);
}

void conn_free(struct conn *conn)
{
	ev_io_stop(loop_ev(conn->loop), &conn->io);
	if (conn->tls) {
		gnutls_deinit(conn->tls);
	}
	tls_credentials_unref(conn->credentials);
	buf_fini(&conn->in);
	buf_fini(&conn->raw);
	buf_fini(&conn->out);
	free(conn->tracks);
	free(conn->self);
	close(conn->fd);
	free(conn);
}
