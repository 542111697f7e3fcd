/* SPDX-License-Identifier: MIT */
/* The terminal client's connection: looking up, connecting, TLS, bytes in and out, and cutting input into frames. Owns
 * the socket, the buffers and the judgement of the server's certificate. What a frame says is not its business. */

#include "tools/client_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/frame.h"

#define PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define READ_SIZE (16u * 1024 + 256) /* a TLS record and a little */
#define READ_TURN 16                 /* reads before other work gets its turn */

/* ---- clock and signals ---- */

static volatile sig_atomic_t stopped;
static sigset_t outside; /* the signal mask while waiting */

static void on_stop(int signal_number)
{
	(void)signal_number;
	stopped = 1;
}

int64_t clock_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int stop_init(void)
{
	static const int signals[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = on_stop };
	sigset_t blocked;
	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		sigaddset(&blocked, signals[i]);
	}
	if (sigprocmask(SIG_BLOCK, &blocked, &outside) < 0) {
		return -errno;
	}
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		sigdelset(&outside, signals[i]);
		if (sigaction(signals[i], &action, NULL) < 0) {
			return -errno;
		}
	}
	return 0;
}

int wait_fds(struct pollfd *fds, nfds_t n, int64_t deadline)
{
	for (;;) {
		int64_t left = deadline == NEVER ? 0 : deadline - clock_us();
		left = left > 0 ? left : 0;
		struct timespec timeout = { .tv_sec = left / 1000000, .tv_nsec = left % 1000000 * 1000 };
		int rc = ppoll(fds, n, deadline == NEVER ? NULL : &timeout, &outside);
		if (stopped) {
			return -EINTR;
		}
		if (rc >= 0 || errno != EINTR) {
			return rc < 0 ? -errno : rc;
		}
	}
}

/* ---- connecting ---- */

void net_init(struct net *net)
{
	*net = (struct net){ .fd = -1 };
}

int net_resolve(struct net *net, const char *host, const char *port, struct addrinfo **list)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	int rc = getaddrinfo(host, port, &hints, list);
	if (rc != 0) {
		snprintf(net->error, sizeof(net->error), "%s: %s", host,
			 rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
		return -EHOSTUNREACH;
	}
	return 0;
}

static bool is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)address;
		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	}
	if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)address;
		const uint8_t *bytes = in6->sin6_addr.s6_addr;
		return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) && bytes[12] == 127);
	}
	return false;
}

/* Only what names this machine by itself counts: a name that some resolver maps to 127.0.0.1 might be anybody's. */
static bool names_loopback(const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];
	return strcmp(host, "localhost") == 0 || inet_pton(AF_INET, host, address) == 1 ||
	       inet_pton(AF_INET6, host, address) == 1;
}

static int connect_one(struct net *net, const struct addrinfo *address, int64_t deadline)
{
	int fd = socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, address->ai_protocol);
	if (fd < 0) {
		return -errno;
	}
	int rc = connect(fd, address->ai_addr, address->ai_addrlen) < 0 ? -errno : 0;
	if (rc == -EINPROGRESS) {
		struct pollfd pollfd = { .fd = fd, .events = POLLOUT };
		int error = 0;
		socklen_t size = sizeof(error);
		rc = wait_fds(&pollfd, 1, deadline);
		if (rc > 0) {
			rc = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? -errno : -error;
		} else if (rc == 0) {
			rc = -ETIMEDOUT;
		}
	}
	if (rc < 0) {
		close(fd);
		return rc;
	}
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* without it all works, only slower */
	net->fd = fd;
	return 0;
}

int net_connect(struct net *net, const char *host, const struct addrinfo *list, int64_t deadline)
{
	int rc = -EHOSTUNREACH, left = 0;
	for (const struct addrinfo *each = list; each; each = each->ai_next) {
		left++;
	}
	for (const struct addrinfo *each = list; each; each = each->ai_next, left--) {
		int64_t now = clock_us();
		/* One address that swallows everything must not take the time of all. */
		rc = connect_one(net, each, deadline > now ? now + (deadline - now) / left : now);
		if (rc == 0) {
			net->loopback = names_loopback(host) && is_loopback(each->ai_addr);
			return 0;
		}
		if (rc == -EINTR) {
			break;
		}
	}
	snprintf(net->error, sizeof(net->error), "%s", strerror(-rc));
	return rc;
}

void net_close(struct net *net)
{
	if (net->tls) {
		gnutls_bye(net->tls, GNUTLS_SHUT_WR);
		gnutls_deinit(net->tls);
	}
	if (net->credentials) {
		gnutls_certificate_free_credentials(net->credentials);
	}
	if (net->fd >= 0) {
		close(net->fd);
	}
	buf_fini(&net->in);
	buf_fini(&net->out);
	net_init(net);
}

/* ---- TLS ---- */

static int fail_tls(struct net *net, const char *what, int rc)
{
	snprintf(net->error, sizeof(net->error), "%s: %s", what, gnutls_strerror(rc));
	return rc == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EPROTO;
}

static int prepare_tls(struct net *net, const struct net_trust *trust)
{
	int rc = gnutls_certificate_allocate_credentials(&net->credentials);
	if (rc < 0) {
		return fail_tls(net, "TLS", rc);
	}
	if (trust->ca_file) {
		rc = gnutls_certificate_set_x509_trust_file(net->credentials, trust->ca_file, GNUTLS_X509_FMT_PEM);
		if (rc <= 0) {
			snprintf(net->error, sizeof(net->error), "%s: %s", trust->ca_file,
				 rc < 0 ? gnutls_strerror(rc) : "no certificate in it");
			return -EINVAL;
		}
	} else if (!trust->insecure) {
		/* None at all? Then verification fails, as it should. */
		gnutls_certificate_set_x509_system_trust(net->credentials);
	}
	rc = gnutls_init(&net->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	rc = rc < 0 ? rc : gnutls_priority_set_direct(net->tls, PRIORITIES, NULL);
	rc = rc < 0 ? rc : gnutls_credentials_set(net->tls, GNUTLS_CRD_CERTIFICATE, net->credentials);
	unsigned char address[sizeof(struct in6_addr)];
	bool is_name =
		inet_pton(AF_INET, trust->domain, address) != 1 && inet_pton(AF_INET6, trust->domain, address) != 1;
	if (rc >= 0 && is_name) {
		rc = gnutls_server_name_set(net->tls, GNUTLS_NAME_DNS, trust->domain, strlen(trust->domain));
	}
	if (rc < 0) {
		return fail_tls(net, "TLS", rc);
	}
	gnutls_transport_set_int(net->tls, net->fd);
	return 0;
}

static int verify_peer(struct net *net, const struct net_trust *trust)
{
	if (trust->insecure) {
		return 0;
	}
	unsigned status = 0;
	int rc = gnutls_certificate_verify_peers3(net->tls, trust->domain, &status);
	if (rc == GNUTLS_E_SUCCESS && status == 0) {
		return 0;
	}
	gnutls_datum_t text = { 0 };
	if (rc < 0 || gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) < 0) {
		snprintf(net->error, sizeof(net->error), "%s", rc < 0 ? gnutls_strerror(rc) : "it is not trusted");
	} else {
		while (text.size && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\0')) {
			text.size--;
		}
		snprintf(net->error, sizeof(net->error), "%.*s", (int)text.size, (const char *)text.data);
	}
	gnutls_free(text.data);
	return trust->lenient && net->loopback ? 1 : -EACCES;
}

int net_start_tls(struct net *net, const struct net_trust *trust, int64_t deadline)
{
	int rc = prepare_tls(net, trust);
	if (rc < 0) {
		return rc;
	}
	for (;;) {
		rc = gnutls_handshake(net->tls);
		if (rc == GNUTLS_E_SUCCESS) {
			return verify_peer(net, trust);
		}
		if (gnutls_error_is_fatal(rc)) {
			const char *why = rc == GNUTLS_E_FATAL_ALERT_RECEIVED
						  ? gnutls_alert_get_name(gnutls_alert_get(net->tls))
						  : gnutls_strerror(rc);
			snprintf(net->error, sizeof(net->error), "TLS handshake: %s", why ? why : "unknown alert");
			return -EPROTO;
		}
		if (rc == GNUTLS_E_AGAIN) {
			struct pollfd pollfd = { .fd = net->fd,
						 .events = gnutls_record_get_direction(net->tls) ? POLLOUT : POLLIN };
			int ready = wait_fds(&pollfd, 1, deadline);
			if (ready <= 0) {
				snprintf(net->error, sizeof(net->error), "TLS handshake: no answer in time");
				return ready < 0 ? ready : -ETIMEDOUT;
			}
		}
	}
}

/* ---- bytes ---- */

/* What the kernel or GnuTLS returned, as bytes, -EAGAIN, or -errno with the reason. */
static ssize_t judge(struct net *net, ssize_t rc, const char *what)
{
	if (rc >= 0) {
		return rc;
	}
	if (!net->tls) {
		int error = errno;
		if (error == EAGAIN || error == EINTR) {
			return -EAGAIN;
		}
		snprintf(net->error, sizeof(net->error), "%s: %s", what, strerror(error));
		return -error;
	}
	if (!gnutls_error_is_fatal((int)rc)) {
		return -EAGAIN;
	}
	if (rc == GNUTLS_E_PREMATURE_TERMINATION) {
		return 0;
	}
	if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED) {
		const char *alert = gnutls_alert_get_name(gnutls_alert_get(net->tls));
		snprintf(net->error, sizeof(net->error), "TLS alert: %s", alert ? alert : "unknown");
	} else {
		snprintf(net->error, sizeof(net->error), "%s: %s", what, gnutls_strerror((int)rc));
	}
	return -ECONNRESET;
}

static int write_out(struct net *net)
{
	while (net->out.len) {
		ssize_t n;
		if (!net->tls) {
			n = send(net->fd, buf_data(&net->out), net->out.len, MSG_NOSIGNAL);
		} else if (net->held) {
			n = gnutls_record_send(net->tls, NULL, 0);
		} else {
			n = gnutls_record_send(net->tls, buf_data(&net->out), net->out.len);
		}
		if (net->tls && (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)) {
			net->held = true;
			return 0;
		}
		n = judge(net, n, "writing");
		if (n == -EAGAIN) {
			return 0;
		}
		if (n < 0) {
			return (int)n;
		}
		net->held = false;
		gnutls_memset(buf_data(&net->out), 0, (size_t)n); /* it may have been a credential */
		buf_consume(&net->out, (size_t)n);
	}
	return 0;
}

static int read_in(struct net *net)
{
	for (int turn = 0; turn < READ_TURN && net->in.len < NET_FRAME_MAX + FRAME_PREFIX_MAX; turn++) {
		uint8_t *room = buf_reserve(&net->in, READ_SIZE);
		if (!room) {
			snprintf(net->error, sizeof(net->error), "out of memory");
			return -ENOMEM;
		}
		ssize_t n =
			net->tls ? gnutls_record_recv(net->tls, room, READ_SIZE) : recv(net->fd, room, READ_SIZE, 0);
		n = judge(net, n, "reading");
		if (n == 0) {
			snprintf(net->error, sizeof(net->error), "the server closed the connection");
			return -ECONNRESET;
		}
		if (n < 0) {
			return n == -EAGAIN ? 0 : (int)n;
		}
		buf_grew(&net->in, (size_t)n);
	}
	return 0;
}

/* Reading goes first: what the server said before it closed is wanted even if writing fails. */
int net_io(struct net *net)
{
	int rc = read_in(net);
	return rc < 0 ? rc : write_out(net);
}

short net_events(const struct net *net)
{
	return net->out.len ? POLLIN | POLLOUT : POLLIN;
}

int net_frame(struct net *net, const uint8_t **frame, size_t *len)
{
	if (!net->in.len) {
		return 0;
	}
	int prefix = frame_prefix(buf_data(&net->in), net->in.len, len);
	if (prefix < 0 || (prefix > 0 && *len >= NET_FRAME_MAX)) {
		snprintf(net->error, sizeof(net->error), "%s",
			 prefix < 0 ? "a frame with a broken length" : "a frame of 2 MiB or more");
		return -EBADMSG;
	}
	if (prefix == 0 || net->in.len - (size_t)prefix < *len) {
		return 0;
	}
	*frame = buf_data(&net->in) + prefix;
	return 1;
}

bool net_has_buffered(struct net *net)
{
	const uint8_t *frame;
	size_t len;
	return net_frame(net, &frame, &len) != 0 || (net->tls && gnutls_record_check_pending(net->tls) > 0);
}

void net_frame_done(struct net *net)
{
	size_t len;
	int prefix = frame_prefix(buf_data(&net->in), net->in.len, &len);
	buf_consume(&net->in, (size_t)prefix + len);
}
