/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_SETTINGS_H
#define STK_CORE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/conf.h"

enum listen_tls { LISTEN_TLS_OFF, LISTEN_TLS_OPTIONAL, LISTEN_TLS_REQUIRED, LISTEN_TLS_DIRECT };
enum log_target { LOG_TARGET_STDERR, LOG_TARGET_SYSLOG };

struct settings_server {
	const char *const *domains; /* case-folded, at least one */
	const char *state_dir;      /* absolute or relative to the configuration file */
	const char *plugins_dir;    /* NULL: none */
	const char *modules_dir;    /* NULL: beside the program in the build tree, else the installed one */
	int64_t workers;            /* threads for what blocks; default 2 */
	int64_t io_threads;         /* I/O loops beside the router's; -1: as settings_io_threads() says */
	const char *user, *group;   /* whom root becomes; NULL: stays, the user's own */
	bool core_dumps;
};

struct settings_listen {
	struct settings_listen *next;
	const char *label; /* NULL for [listen] */
	const char *file;
	unsigned line;
	const char *address; /* an IP address, v4 or v6 */
	int64_t port;        /* 0: any free one (logged) */
	int tls;             /* enum listen_tls */
	int64_t backlog;
};

struct settings_tls {
	const char *certificate, *key; /* both or neither */
	const char *priorities;        /* GnuTLS priority string */
	bool session_tickets;
};

struct settings_log {
	int level; /* index into err, warning, notice, info, debug; settings_log_level() gives the syslog level */
	int target;
	const char *const *modules; /* NAME=LEVEL each, or NULL */
};

struct settings_login {
	double stream_timeout, auth_timeout, bind_timeout; /* seconds; default 60 each */
	double failure_delay, failure_delay_max;           /* seconds: 0.5 and 2 */
	int64_t user_tries, address_tries;                 /* a minute: 10 and 60; 0: no limit */
	int64_t prefix_tries;                              /* the same of a /24 or /48: 600 */
	double trusted_time;                               /* seconds an address with a login is exempt: 24 h */
};

struct settings_limits {
	int64_t max_frame;       /* after login: 2 MiB - 1 at most */
	int64_t max_frame_login; /* before login: 4 KiB */
	int64_t max_depth, max_headers, max_parts, max_fields; /* of one frame: 16, 256, 256, 4096 */
	int64_t max_send_queue;  /* bytes waiting for one connection: 4 MiB */
	int64_t max_connections; /* in all: 100000 */
	int64_t max_per_address; /* connections: 5000; 0: no limit, as for all of these */
	int64_t max_waiting, max_waiting_per_address;  /* connections without a login: 20000 and 1000 */
	const char *const *trusted_addresses; /* networks that limits by address do not hold for, or NULL */
	int64_t max_memory;      /* bytes of the process; 0: three quarters of the machine's */
	int64_t stanza_rate, byte_rate; /* a second, of one connection: 1000 and 4 MiB */
	double rate_burst;       /* seconds' worth that may come at once: 10 */
	double rate_patience;    /* seconds that a connection is slowed down before it is ended: 60; 0: for ever */
	double idle_timeout;     /* 5 min without a byte received; 0: none */
	int64_t max_jobs;        /* of one module that wait or run: 4096 */
	double job_time_limit;   /* of modules that set none; 0: none */
};

struct settings {
	struct settings_server server;
	struct settings_listen *listen; /* in the order written, at least one */
	struct settings_tls tls;
	bool have_tls_section;
	struct settings_log log;
	struct settings_login login;
	struct settings_limits limits;
	char *base_dir; /* of the main configuration file */
};

/* Is NAME a section of the core (server, listen, tls, log, login, limits)? All others are modules. */
bool settings_is_core(const char *name);
/* Reads FILE and the *.conf files of its plugins-dir into CONF, then the core's sections into SETTINGS (new, the caller's).
 * 0, or -EINVAL etc. with every fault reported. */
int settings_load(const char *file, struct conf *conf, struct settings **settings, conf_report_fn *report, void *arg);
void settings_free(struct settings **settings);
/* The domain of the configuration that FOLDED is, or NULL. */
const char *settings_find_domain(const struct settings *settings, const char *folded);
int settings_log_level(const struct settings *settings); /* LOG_ERR .. LOG_DEBUG of syslog(3) */
/* Is ITEM "NAME=LEVEL" with a level and a module of CONF? 0, or -EINVAL with ERR. */
int settings_check_log(const struct conf *conf, const char *item, char *err, size_t errlen);
/* The same for those of the command line, NULL-terminated, or NULL; the first fault is reported. */
int settings_check_logs(const struct conf *conf, const char *const *items, conf_report_fn *report, void *arg);
/* The syslog level that the last of ITEMS (NULL-terminated, checked; or NULL) gives module NAME; -1: none does. */
int settings_find_log(const char *const *items, const char *name);
/* How many I/O threads there are to be: what is set, or as many as suit the processors that the process may use. */
unsigned settings_io_threads(const struct settings *settings);
/* The option table of a core section, for --help-module; NULL options when NAME is none. */
struct option_table settings_table(const char *name);
/* option_dump() of all core sections. */
void settings_dump_options(FILE *out);

#endif
