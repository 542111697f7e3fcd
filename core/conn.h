/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_CONN_H
#define STK_CORE_CONN_H

#include "core/buf.h"
#include "core/link.h"
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
	struct link dirty, sampled, stalled;
	struct link timed; /* in the loop's wheel, or ending */
	uint64_t id;
	int fd;
	enum conn_state state;
	bool paused;          /* by the router */
	bool logged_in;
	bool slow;            /* it has sent faster than the rates, and is in the loop's list of these, by `stalled` */
	uint32_t last_in;     /* turn of the loop's wheel in which bytes came */
	gnutls_session_t tls; /* NULL in clear */
	struct tls_credentials *credentials;
	const uint8_t *pull;  /* what GnuTLS reads from: bytes in the loop's buffer, or in raw */
	size_t pull_len;
	struct buf raw;       /* bytes from the socket that wait behind a pause, TLS only */
	struct buf in;        /* the beginning of a frame, or frames behind a pause */
	struct buf out;       /* bytes for the socket */
	size_t under_way;     /* weight of the events that the router has not dealt with, at most */
	uint64_t emitted;     /* loop_emitted() behind the last of them */
	uint64_t written;     /* bytes that the kernel has taken */
	uint64_t acked;       /* of these, how many the peer's kernel was last seen to have */
	uint64_t acked_then;  /* acked before the bytes came that are being read */
	struct track *tracks; /* in order; not yet known to be with the peer */
	unsigned track_n, track_cap, track_sent; /* the first track_sent of them are in the kernel's hands */
	char *self;
	struct ev_io io;
	double stanzas_at, bytes_at; /* when the rates allow as much as may come at once again */
	double slow_since;           /* it is over the rates all the time; 0: it is not */
	double end_at;
};

/* What a loop's connections borrow while bytes are in flight: buffers, and times that need no look at the clock for each frame. */
struct conn_scratch {
	double now;     /* clock_now() when what is being read was begun */
	int64_t now_ms; /* stk_now_ms() when the commands that are being done were begun */
	uint8_t *raw, *plain; /* CONN_RAW_SIZE, CONN_PLAIN_SIZE bytes */
	struct buf frame;
	const struct stk_stanza *encoded; /* whose bytes are in frame, when they are the same for whoever else gets it; NULL: nobody's. Only while
	                                   * the commands that had been given are done: until then nothing else takes its place in memory */
};

#define CONN_RAW_SIZE   (64 * 1024)
#define CONN_PLAIN_SIZE (32 * 1024)
#define CONN_IDLE_TURNS 64 /* of the loop's wheel: idle-timeout */

/* A new connection over FD, which it owns from now on; NULL: out of memory, FD is closed. */
struct conn *conn_new(struct loop *loop, uint64_t id, int fd, int tls_mode);
/* Says StreamEnd with WHY to a socket that was just accepted, as far as it takes that at once, and closes it. */
void conn_refuse(int fd, int tls_mode, const char *why);
void conn_free(struct conn *conn);
void conn_command(struct conn *conn, const struct command *command);
void conn_flush(struct conn *conn);
/* Looks at what the peer's kernel has acknowledged; leaves the list of loop_sample() when that is all. */
void conn_sample(struct conn *conn);
/* Reads on, the router has dealt with what there was. */
void conn_unstall(struct conn *conn);
/* Its turn of the wheel has come: was it idle? */
void conn_turn(struct conn *conn);
/* Reads on if the rates allow it. */
void conn_unslow(struct conn *conn);
/* Looks whether the last bytes are with the peer's kernel; frees it then. */
void conn_poll_end(struct conn *conn);

/* What connections need of their loop. */
struct ev_loop *loop_ev(struct loop *loop);
const struct settings_limits *loop_limits(const struct loop *loop);
struct conn_scratch *loop_scratch(struct loop *loop);
struct tls_credentials *loop_credentials(struct loop *loop);
uint32_t loop_turn(const struct loop *loop); /* of its wheel */
void loop_mark_dirty(struct loop *loop, struct conn *conn);
void loop_sample(struct loop *loop, struct conn *conn); /* has conn_sample() called now and then */
void loop_wait_turn(struct loop *loop, struct conn *conn, uint32_t turn); /* has conn_turn() called then */
void loop_wait_end(struct loop *loop, struct conn *conn);                 /* has conn_poll_end() called often */
/* Sends EVENT to the router; it is weighed. */
void loop_emit(struct loop *loop, struct event *event);
void loop_hand_on(struct loop *loop); /* between two connections: what was read may be routed now */
uint64_t loop_emitted(const struct loop *loop); /* weight of all events that were ever sent */
bool loop_is_settled(const struct loop *loop, uint64_t emitted); /* has the router dealt with all events up to there? */
bool loop_is_full(const struct loop *loop); /* enough is under way to the router */
/* Has conn_unstall() called when the router has dealt with all up to conn->emitted. */
void loop_stall(struct loop *loop, struct conn *conn);
/* Has conn_unslow() called now and then. */
void loop_slow(struct loop *loop, struct conn *conn);
void loop_remove(struct loop *loop, struct conn *conn); /* frees it and its handle */

/* What listeners need of their loop. */
struct listener;
struct listener **loop_listeners(struct loop *loop);
/* Gives FD, just accepted, to one of the loops, or closes it; OPENED is the event that tells the router of it, with address and tls. */
void loop_accepted(struct loop *loop, int fd, struct event *opened);

#endif
