/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CLIENT_NET_H
#define STK_TOOLS_CLIENT_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netdb.h>
#include <poll.h>

#include <gnutls/gnutls.h>

#include "core/buf.h"

#define NET_FRAME_MAX (2u * 1024 * 1024) /* a frame that is this long or longer is taken for broken */

/* How the server's certificate is judged. */
struct net_trust {
	const char *domain;  /* the name that it must be for */
	const char *ca_file; /* PEM; NULL: the system's authorities */
	bool insecure;       /* any will do */
	bool lenient;        /* any will do when the server is on this machine, with a warning */
};

/* One connection. After a failure ERROR says in words what went wrong. */
struct net {
	int fd;
	bool loopback;        /* the peer is this machine, by the address that was asked for and by the one reached */
	gnutls_session_t tls; /* NULL: in clear */
	gnutls_certificate_credentials_t credentials;
	struct buf in, out;
	bool held; /* GnuTLS has taken bytes at the front of OUT but not written them yet */
	char error[512];
};

/* ---- clock and signals ---- */

#define NEVER INT64_MAX

int64_t clock_us(void); /* monotonic, microseconds */
/* From now on SIGINT, SIGQUIT, SIGTERM and SIGHUP only interrupt wait_fds(), now and ever after. */
int stop_init(void);
/* Waits for events on the N descriptors or until DEADLINE. Returns how many are ready, 0: the time is up, -EINTR: told
 * to stop. */
int wait_fds(struct pollfd *fds, nfds_t n, int64_t deadline);

/* ---- connection ---- */

void net_init(struct net *net);
/* Looks HOST up. 0 and LIST to be freed with freeaddrinfo(), or -EHOSTUNREACH. Blocks. */
int net_resolve(struct net *net, const char *host, const char *port, struct addrinfo **list);
/* Connects to one of LIST. 0, -ETIMEDOUT, -EINTR or -errno. */
int net_connect(struct net *net, const char *host, const struct addrinfo *list, int64_t deadline);
/* The TLS handshake and the judgement. 0; 1: ERROR says why the certificate cannot be trusted, but it need not be here;
 * -EACCES: it is not trusted; -EINVAL: the CA file is no good; -EPROTO, -ETIMEDOUT, -EINTR, -ENOMEM. */
int net_start_tls(struct net *net, const struct net_trust *trust, int64_t deadline);
/* Writes out what is queued and reads what has come, as far as possible without waiting. 0, or -errno: the connection
 * is over (what came before that is in the buffer). */
int net_io(struct net *net);
/* What to wait for on the socket. */
short net_events(const struct net *net);
/* Is there input that waiting on the socket would not show: a whole (or broken) frame, or what GnuTLS has decrypted? */
bool net_has_buffered(struct net *net);
/* The first whole frame of the input, without its length prefix. 1; 0: none yet; -EBADMSG. */
int net_frame(struct net *net, const uint8_t **frame, size_t *len);
void net_frame_done(struct net *net); /* drops it */
void net_close(struct net *net);

#endif
