/* SPDX-License-Identifier: MIT */
/* The way from startalkctl to the server: which socket it is, and lines both ways. */

#include "tools/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/conf.h"
#include "core/settings.h"

#define DEFAULT_CONFIG STK_SYSCONF_DIR "/startalkd/startalkd.conf"
#define PATH_BYTES 4096

struct admin {
	const char *socket;
};

static const struct stk_option admin_options[] = {
	{ "socket", STK_OPT_PATH, offsetof(struct admin, socket), NULL, 0, 3000, NULL, NULL },
	{ 0 },
};

/* Whether the configuration is right is the server's business; one that runs can be reached while it is edited. */
static void overlook(const char *fault, void *arg)
{
	(void)fault;
	(void)arg;
}

static int path_from_conf(struct conf *conf, char *path, bool *enabled)
{
	struct settings_server server = { 0 };
	struct admin admin = { 0 };
	struct option_table server_table = settings_table("server");
	struct option_table admin_table = { .options = admin_options, .stride = sizeof(struct stk_option) };
	(void)conf_apply(conf_find(conf, "server", NULL), &server_table, &server, overlook, NULL);
	if (server.plugins_dir) {
		(void)conf_read_dir(conf, server.plugins_dir, overlook, NULL);
	}
	const struct conf_section *section = conf_find(conf, "admin", NULL);
	(void)conf_apply(section, &admin_table, &admin, overlook, NULL);
	*enabled = section != NULL;
	int rc = admin.socket || server.state_dir ? 0 : -ENOENT;
	if (rc == 0) {
		snprintf(path, PATH_BYTES, "%s%s", admin.socket ? admin.socket : server.state_dir,
			 admin.socket ? "" : "/admin.sock");
	}
	option_free(&server_table, &server);
	option_free(&admin_table, &admin);
	return rc;
}

static int find_path(const struct ctl_place *place, char *path, bool *enabled, bool quiet)
{
	*enabled = true;
	if (place->socket || place->state_dir) {
		snprintf(path, PATH_BYTES, "%s%s", place->socket ? place->socket : place->state_dir,
			 place->socket ? "" : "/admin.sock");
		return 0;
	}
	const char *file = place->config ? place->config : DEFAULT_CONFIG;
	struct conf *conf = conf_new();
	int rc = !conf ? -ENOMEM : access(file, R_OK) < 0 ? -errno : 0;
	if (rc == 0) {
		(void)conf_read_file(conf, file, overlook, NULL);
		rc = path_from_conf(conf, path, enabled);
	}
	conf_free(&conf);
	if (rc < 0 && !quiet) {
		ctl_error("%s: %s; which server? give -c FILE, --state-dir DIR or --socket PATH", file,
			  rc == -ENOENT && access(file, R_OK) == 0 ? "there is no state-dir in it" : strerror(-rc));
	}
	return rc;
}

static void tell_unreachable(const char *path, bool enabled, int error)
{
	const char *hint =
		error == EACCES || error == EPERM ? "; only root and the user that the server runs as may give commands"
		: !enabled ? "; the module admin is not enabled: it needs a section [admin] in the configuration"
			   : "; is the server running, and with the module admin ([admin] in its configuration)?";
	ctl_error("cannot reach the server at %s: %s%s", path, strerror(error), hint);
}

int ctl_connect(struct ctl_socket *sock, const struct ctl_place *place, bool quiet)
{
	char path[PATH_BYTES];
	bool enabled;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	*sock = (struct ctl_socket){ .fd = -1 };
	int rc = find_path(place, path, &enabled, quiet);
	if (rc < 0) {
		return rc;
	}
	size_t len = strlen(path);
	if (len < sizeof(address.sun_path)) {
		memcpy(address.sun_path, path, len + 1);
		sock->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		rc = sock->fd < 0 || connect(sock->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	} else {
		rc = -ENAMETOOLONG;
	}
	if (rc < 0 && !quiet) {
		tell_unreachable(path, enabled, -rc);
	}
	return rc;
}

void ctl_send(struct ctl_socket *sock, const char *text, size_t len)
{
	while (len) {
		ssize_t n = send(sock->fd, text, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return; /* the answer, or the lack of one, says why */
		}
		text += n;
		len -= (size_t)n;
	}
}

int ctl_receive(struct ctl_socket *sock, const char **line)
{
	struct buf *in = &sock->in;
	size_t scanned = 0;
	buf_consume(in, sock->taken);
	sock->taken = 0;
	for (;;) {
		uint8_t *end = in->len > scanned ? memchr(buf_data(in) + scanned, '\n', in->len - scanned) : NULL;
		if (end) {
			*end = '\0';
			*line = (const char *)buf_data(in);
			sock->taken = (size_t)(end - buf_data(in)) + 1;
			return 1;
		}
		scanned = in->len;
		uint8_t *room = buf_reserve(in, 65536);
		ssize_t n = room ? recv(sock->fd, room, 65536, 0) : 0;
		if (!room) {
			return -ENOMEM;
		}
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n == 0 ? 0 : -errno;
		}
		buf_grew(in, (size_t)n);
	}
}

void ctl_close(struct ctl_socket *sock)
{
	if (sock->fd >= 0) {
		close(sock->fd);
		sock->fd = -1;
	}
	buf_fini(&sock->in);
}
