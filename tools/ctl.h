/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CTL_H
#define STK_TOOLS_CTL_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "core/buf.h"

enum { EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_LOST = 3 };

/* One line on standard error. */
void ctl_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- the socket (ctl_socket.c) ---- */

/* Where the server is: one of them is given, or none. */
struct ctl_place {
	const char *config, *socket, *state_dir;
};

struct ctl_socket {
	int fd;
	struct buf in;
	size_t taken; /* bytes of in that the last line had */
};

/* Connects. 0 or -errno; why it cannot is told unless QUIET. */
int ctl_connect(struct ctl_socket *sock, const struct ctl_place *place, bool quiet);
/* Sends LEN bytes. What the server has to say about them is in its answer. */
void ctl_send(struct ctl_socket *sock, const char *text, size_t len);
/* The next line, without its end, good until the next call. 1; 0: the server has closed the connection; -errno. */
int ctl_receive(struct ctl_socket *sock, const char **line);
void ctl_close(struct ctl_socket *sock);

/* ---- passwords (ctl_secret.c) ---- */

/* The new password of NAME: asked for twice on the terminal when standard input is one, else the first line of it. 0
 * and SECRET to be freed with ctl_secret_free(); else -errno, told. */
int ctl_new_password(const char *name, char **secret);
void ctl_secret_free(char **secret);

/* ---- showing (ctl_show.c) ---- */

enum show_kind { SHOW_LINES, SHOW_JSON, SHOW_MEMBERS, SHOW_HELP, SHOW_STATUS, SHOW_METRICS, SHOW_SESSIONS, SHOW_USERS, SHOW_DOCTOR };

struct show {
	enum show_kind kind;
	const char *const *titles; /* of a table; NULL-terminated */
	char ***rows;              /* of a table, which is printed at the end */
	size_t count, cap, columns;
};

void show_begin(struct show *show, enum show_kind kind);
/* Shows LINE, a JSON object, now or at the end. 0 or -ENOMEM. */
int show_line(struct show *show, const char *line, const json_t *object);
void show_end(struct show *show); /* prints what is left and frees */
/* TEXT with everything escaped that could steer a terminal or mislead its reader. malloc'd, or NULL. */
char *show_escape(const char *text);

#endif
