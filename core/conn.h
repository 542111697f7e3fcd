/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_CONN_H
#define STK_CORE_CONN_H

#include "core/buf.h"
#include "core/loop.h"

/* One TCP connection; private to the I/O loop. */
enum conn_state {
	CONN_OPEN,      /* frames both ways, in clear or inside TLS */
	CONN_TLS_WAIT,  /* StartTLS was read: nothing more may come in clear */
	CONN_HANDSHAKE,
	CONN_BROKEN,    /* nothing is read any more, the router was told */
	CONN_ENDING,    /* the last bytes are on their way */
};

/* A stanza whose way to the peer is followed. */
struct track {
	uint64_t offset; /* of the byte behind it, counted from the connection's start */
	uint64_t mark;
	bool tell_sent;
};

struct conn {
	struct loop *loop;
	struct conn *dirty_next;
	uint64_t id;
	int fd;
	enum conn_state state;
	bool paused, logged_in, dirty, direct;
	int tls_mode;
	gnutls_session_t tls; /* NULL in clear */
	struct tls_credentials *credentials;
	const uint8_t *pull;  /* what GnuTLS reads from: bytes in the loop's buffer, or in raw */
	size_t pull_len;
	struct buf raw;       /* bytes from the socket that wait behind a pause, TLS only */
	struct buf in;        /* the beginning of a frame, or frames behind a pause */
	struct buf out;       /* bytes for the socket */
	uint64_t written;     /* bytes that the kernel has taken */
	uint64_t acked;       /* of these, how many the peer's kernel was last seen to have */
	uint64_t acked_then;  /* acked before the bytes came that are being read */
	struct track *tracks; /* in order; not yet known to be with the peer */
	unsigned track_n, track_cap, track_sent; /* the first track_sent of them are in the kernel's hands */
	struct conn *sampled_next, **sampled_at;
	char *self;
	struct ev_io io;
	struct ev_timer timer; /* idle while open; the end's bound while ending */
	double last_in, end_at;
};

/* Buffers that a thread's connections borrow while bytes are in flight. */
struct conn_scratch {
	uint8_t *raw, *plain; /* CONN_RAW_SIZE, CONN_PLAIN_SIZE bytes */
	struct buf frame;
};

#define CONN_RAW_SIZE   (64 * 1024)
#define CONN_PLAIN_SIZE (32 * 1024)

/* A new connection over FD, which it owns from now on; NULL: out of memory, FD is closed. */
struct conn *conn_new(struct loop *loop, uint64_t id, int fd, int tls_mode);
void conn_free(struct conn *conn);
void conn_command(struct conn *conn, const struct command *command);
void conn_flush(struct conn *conn);
/* Looks at what the peer's kernel has acknowledged; leaves the list of loop_sample() when that is all. */
void conn_sample(struct conn *conn);

/* What connections need of their loop. */
struct ev_loop *loop_ev(struct loop *loop);
const struct settings *loop_settings(const struct loop *loop);
struct conn_scratch *loop_scratch(struct loop *loop);
struct tls_credentials *loop_credentials(struct loop *loop);
void loop_mark_dirty(struct loop *loop, struct conn *conn);
void loop_sample(struct loop *loop, struct conn *conn); /* has conn_sample() called now and then */
void loop_unsample(struct conn *conn);
void loop_emit(struct loop *loop, struct event *event);
void loop_remove(struct loop *loop, struct conn *conn); /* frees it and its handle */

#endif
