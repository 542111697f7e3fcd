/* SPDX-License-Identifier: MIT */
/* A server that knows no protocol: it sends back what it gets, or, to all. One thread, epoll, one send or TLS record
 * for each connection and each read. */

#include "tests/bench/bare.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gnutls/gnutls.h>

#define EVENTS 256
#define PIECE 16384 /* bytes of a read, and of a TLS record at most */
#define BACKLOG 4096

struct peer {
	struct peer *next, *prev;
	int fd;
	bool first;  /* its input goes to all when the server is a fan */
	bool shaken; /* the handshake is over, or none is needed */
	bool closed;
	gnutls_session_t tls;
};

static struct {
	int epoll, listener;
	bool fan, secure;
	struct peer *peers, *closed; /* closed ones are freed at the end of a turn */
	bool had_first;
	gnutls_certificate_credentials_t credentials;
	gnutls_priority_t priorities;
} net;

static void watch(int fd, void *ptr)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = ptr };
	if (epoll_ctl(net.epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		bare_die("epoll: %s", strerror(errno));
	}
}

static void close_peer(struct peer *peer)
{
	if (peer->closed) {
		return;
	}
	peer->closed = true;
	*(peer->prev ? &peer->prev->next : &net.peers) = peer->next;
	if (peer->next) {
		peer->next->prev = peer->prev;
	}
	if (peer->tls) {
		gnutls_deinit(peer->tls);
	}
	close(peer->fd);
	peer->next = net.closed;
	net.closed = peer;
}

static void add_peer(int fd)
{
	int on = 1;
	struct peer *peer = calloc(1, sizeof(*peer));
	if (!peer) {
		bare_die("out of memory");
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*peer = (struct peer){ .next = net.peers, .fd = fd, .first = !net.had_first, .shaken = !net.secure };
	if (net.peers) {
		net.peers->prev = peer;
	}
	net.peers = peer;
	net.had_first = true;
	if (net.secure &&
	    (gnutls_init(&peer->tls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS) < 0 ||
	     gnutls_priority_set(peer->tls, net.priorities) < 0 ||
	     gnutls_credentials_set(peer->tls, GNUTLS_CRD_CERTIFICATE, net.credentials) < 0)) {
		bare_die("GnuTLS: cannot make a session");
	}
	if (peer->tls) {
		gnutls_certificate_server_set_request(peer->tls, GNUTLS_CERT_IGNORE);
		gnutls_transport_set_int(peer->tls, fd);
	}
	watch(fd, peer);
}

static void accept_all(void)
{
	int fd;
	while ((fd = accept4(net.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		add_peer(fd);
	}
}

/* Waits for a full socket: the clients here read all the time. */
static bool send_to(struct peer *peer, const char *data, size_t n)
{
	while (n) {
		ssize_t sent =
			peer->tls ? gnutls_record_send(peer->tls, data, n) : send(peer->fd, data, n, MSG_NOSIGNAL);
		bool full = peer->tls ? sent == GNUTLS_E_AGAIN : sent < 0 && errno == EAGAIN;
		if (full) {
			struct pollfd wait = { .fd = peer->fd, .events = POLLOUT };
			poll(&wait, 1, -1);
		} else if (sent <= 0) {
			return false;
		} else {
			data += sent;
			n -= (size_t)sent;
		}
	}
	return true;
}

static void handle(struct peer *from, const char *data, size_t n)
{
	if (!net.fan || !from->first) {
		if (!send_to(from, data, n)) {
			close_peer(from);
		}
		return;
	}
	struct peer *next;
	for (struct peer *peer = net.peers; peer; peer = next) {
		next = peer->next;
		if (peer->shaken && !send_to(peer, data, n)) {
			close_peer(peer);
		}
	}
}

static void read_clear(struct peer *peer)
{
	char data[PIECE];
	ssize_t n = recv(peer->fd, data, sizeof(data), 0);
	if (n > 0) {
		handle(peer, data, (size_t)n);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		close_peer(peer);
	}
}

static void read_tls(struct peer *peer)
{
	char data[PIECE];
	if (!peer->shaken) {
		int rc = gnutls_handshake(peer->tls);
		peer->shaken = rc == 0;
		if (rc < 0 && gnutls_error_is_fatal(rc)) {
			close_peer(peer);
		}
	}
	while (peer->shaken && !peer->closed) {
		ssize_t n = gnutls_record_recv(peer->tls, data, sizeof(data));
		if (n > 0) {
			handle(peer, data, (size_t)n);
		} else if (n == GNUTLS_E_AGAIN) {
			return;
		} else if (n != GNUTLS_E_INTERRUPTED) {
			close_peer(peer);
		}
	}
}

static void start_listening(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	net.epoll = epoll_create1(EPOLL_CLOEXEC);
	net.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (net.epoll < 0 || net.listener < 0 || bind(net.listener, (struct sockaddr *)&address, len) < 0 ||
	    listen(net.listener, BACKLOG) < 0 || getsockname(net.listener, (struct sockaddr *)&address, &len) < 0) {
		bare_die("cannot listen: %s", strerror(errno));
	}
	watch(net.listener, &net.listener);
	watch(STDIN_FILENO, NULL);
	printf("{\"port\": %u}\n", (unsigned)ntohs(address.sin_port));
	fflush(stdout);
}

static void start_tls(const struct bare_options *options)
{
	net.secure = true;
	if (gnutls_priority_init(&net.priorities, options->priorities, NULL) < 0 ||
	    gnutls_certificate_allocate_credentials(&net.credentials) < 0 ||
	    gnutls_certificate_set_x509_key_file(net.credentials, options->crt, options->key, GNUTLS_X509_FMT_PEM) <
		    0) {
		bare_die("TLS: priorities, certificate or key cannot be used");
	}
}

static void stop(void)
{
	while (net.peers) {
		close_peer(net.peers);
	}
	close(net.listener);
	close(net.epoll);
	if (net.secure) {
		gnutls_certificate_free_credentials(net.credentials);
		gnutls_priority_deinit(net.priorities);
	}
}

static void bury(void)
{
	while (net.closed) {
		struct peer *peer = net.closed;
		net.closed = peer->next;
		free(peer);
	}
}

void bare_serve(const struct bare_options *options, bool fan)
{
	struct epoll_event events[EVENTS];
	bool stopping = false;
	net.fan = fan;
	if (options->crt && options->key) {
		start_tls(options);
	}
	start_listening();
	while (!stopping) {
		int n = epoll_wait(net.epoll, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			struct peer *peer = events[i].data.ptr;
			if (!peer) {
				stopping = true;
			} else if (events[i].data.ptr == (void *)&net.listener) {
				accept_all();
			} else if (!peer->closed) {
				(peer->tls ? read_tls : read_clear)(peer);
			}
		}
		bury();
	}
	stop();
	bury();
}
