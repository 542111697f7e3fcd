/* SPDX-License-Identifier: MIT */
/* The core's own sections: their option tables, and what must hold between options. Modules have their tables themselves. */

#include "core/settings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <pwd.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include <startalkd/jid.h>

#include "core/gate.h"
#include "proto/check.h"

#define MAX_FRAME (2 * 1024 * 1024 - 1) /* clients read three length bytes */
#define IO_THREADS_AUTO 8 /* more are of use only when asked for: one router feeds them all */
#define SECTION(type, field) offsetof(struct settings_##type, field)

static const char *const tls_modes[] = { "off", "optional", "required", "direct", NULL };
static const char *const levels[] = { "err", "warning", "notice", "info", "debug", NULL };
static const char *const targets[] = { "stderr", "syslog", NULL };

static const struct stk_option server_options[] = {
	{ "domains", STK_OPT_LIST, SECTION(server, domains), NULL, 1, 1000, "The domains served, separated by commas; the first is the default", NULL },
	{ "state-dir", STK_OPT_PATH, SECTION(server, state_dir), NULL, 1, 3000, "Where databases, keys and the lock are kept", NULL },
	{ "plugins-dir", STK_OPT_PATH, SECTION(server, plugins_dir), NULL, 0, 3000, "Its *.conf files are read too, in name order", NULL },
	{ "modules-dir", STK_OPT_PATH, SECTION(server, modules_dir), NULL, 0, 3000, "Where shared objects are looked for instead of the built-in place", NULL },
	{ "workers", STK_OPT_INT, SECTION(server, workers), "2", 1, 256, "Threads for password hashing and databases", NULL },
	{ "io-threads", STK_OPT_INT, SECTION(server, io_threads), "-1", -1, 64, "Threads for sockets, TLS and frames beside the router's; 0: that one does all; -1: one less than the processors that may be used, 8 at most", NULL },
	{ "user", STK_OPT_STR, SECTION(server, user), NULL, 0, 256, "The user that the server becomes when root starts it, after its ports are bound", NULL },
	{ "group", STK_OPT_STR, SECTION(server, group), NULL, 0, 256, "The group that it becomes; without it the user's own", NULL },
	{ "core-dumps", STK_OPT_BOOL, SECTION(server, core_dumps), "off", 0, 0, "Whether a crash may leave a core dump; one holds passwords and keys", NULL },
	{ 0 },
};

static const struct stk_option listen_options[] = {
	{ "address", STK_OPT_STR, SECTION(listen, address), "127.0.0.1", 2, 45, "The IP address to listen on; 0.0.0.0 or :: for all", NULL },
	{ "port", STK_OPT_INT, SECTION(listen, port), "5202", 0, 65535, "The TCP port; 0 takes a free one and logs it", NULL },
	{ "tls", STK_OPT_ENUM, SECTION(listen, tls), "optional", 0, 0, "Whether StartTLS is offered or required, or TLS spoken from the first byte (direct)", tls_modes },
	{ "backlog", STK_OPT_INT, SECTION(listen, backlog), "1024", 1, 65535, "Connections that may wait to be accepted", NULL },
	{ 0 },
};

static const struct stk_option tls_options[] = {
	{ "certificate", STK_OPT_PATH, SECTION(tls, certificate), NULL, 0, 3000, "The certificate chain, PEM; without it a self-signed one is made in state-dir", NULL },
	{ "key", STK_OPT_PATH, SECTION(tls, key), NULL, 0, 3000, "The private key that belongs to the certificate, PEM", NULL },
	{ "priorities", STK_OPT_STR, SECTION(tls, priorities), "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE", 1, 1000, "The GnuTLS priority string", NULL },
	{ "session-tickets", STK_OPT_BOOL, SECTION(tls, session_tickets), "off", 0, 0, "Hand out tickets; older desktop clients fail to log in when they get one", NULL },
	{ 0 },
};

static const struct stk_option log_options[] = {
	{ "level", STK_OPT_ENUM, SECTION(log, level), "info", 0, 0, "The least grave lines that are written", levels },
	{ "target", STK_OPT_ENUM, SECTION(log, target), "stderr", 0, 0, "Where to", targets },
	{ "modules", STK_OPT_LIST, SECTION(log, modules), NULL, 0, 1000, "Levels of single modules that differ from level, as message=debug, archive=warning", NULL },
	{ 0 },
};

static const struct stk_option login_options[] = {
	{ "stream-timeout", STK_OPT_SECONDS, SECTION(login, stream_timeout), "60s", 10, 3600000, "Time for the Welcome", NULL },
	{ "auth-timeout", STK_OPT_SECONDS, SECTION(login, auth_timeout), "60s", 10, 3600000, "Time from the Welcome to a successful login", NULL },
	{ "bind-timeout", STK_OPT_SECONDS, SECTION(login, bind_timeout), "60s", 10, 3600000, "Time from login to bind", NULL },
	{ "failure-delay", STK_OPT_SECONDS, SECTION(login, failure_delay), "500ms", 0, 60000, "When a failed login is answered, counted from its arrival; doubles within a connection", NULL },
	{ "failure-delay-max", STK_OPT_SECONDS, SECTION(login, failure_delay_max), "2s", 0, 60000, "Where the doubling ends", NULL },
	{ "user-tries", STK_OPT_INT, SECTION(login, user_tries), "10", 0, 1000000, "Failed logins a minute of one user before tries are refused for a minute; 0: no limit", NULL },
	{ "address-tries", STK_OPT_INT, SECTION(login, address_tries), "60", 0, 1000000, "The same for one address; 0: no limit", NULL },
	{ "prefix-tries", STK_OPT_INT, SECTION(login, prefix_tries), "600", 0, 1000000, "The same for all addresses of one /24 of IPv4 or /48 of IPv6 together, but for those that a login succeeded from within trusted-time; 0: no limit", NULL },
	{ "trusted-time", STK_OPT_SECONDS, SECTION(login, trusted_time), "24h", 0, 2592000000, "After a successful login: how long its address may fail ten times as often, and its user is not refused there for what is tried elsewhere", NULL },
	{ 0 },
};

static const struct stk_option limits_options[] = {
	{ "max-frame", STK_OPT_BYTES, SECTION(limits, max_frame), "2097151", 1024, MAX_FRAME, "The largest frame, as it is sent and inflated, after login", NULL },
	{ "max-frame-login", STK_OPT_BYTES, SECTION(limits, max_frame_login), "4 KiB", 512, MAX_FRAME, "The same before login", NULL },
	{ "max-depth", STK_OPT_INT, SECTION(limits, max_depth), "16", 6, CHECK_DEPTH, "Messages within messages in one frame of a client, before login and after; past it the stream ends", NULL },
	{ "max-headers", STK_OPT_INT, SECTION(limits, max_headers), "256", 16, 65536, "Headers in one frame, which become attributes of a stanza; the same", NULL },
	{ "max-parts", STK_OPT_INT, SECTION(limits, max_parts), "256", 16, 65536, "Other parts of one frame, as bodies within bodies; the same", NULL },
	{ "max-fields", STK_OPT_INT, SECTION(limits, max_fields), "4096", 64, 524288, "Fields of one frame in all, also those that nobody knows; the same", NULL },
	{ "max-send-queue", STK_OPT_BYTES, SECTION(limits, max_send_queue), "4 MiB", 4096, 1073741824, "Bytes that may wait for one client before its connection is ended", NULL },
	{ "max-connections", STK_OPT_INT, SECTION(limits, max_connections), "100000", 1, 10000000, "Connections in all; past it new ones are refused", NULL },
	{ "max-connections-per-address", STK_OPT_INT, SECTION(limits, max_per_address), "5000", 0, 10000000, "Connections from one IPv4 address or one /64 of IPv6; past it new ones from there are refused; 0: no limit", NULL },
	{ "max-unauthenticated", STK_OPT_INT, SECTION(limits, max_waiting), "20000", 0, 10000000, "Connections without a login in all; past it new ones are refused; 0: no limit", NULL },
	{ "max-unauthenticated-per-address", STK_OPT_INT, SECTION(limits, max_waiting_per_address), "1000", 0, 10000000, "The same for one address, as above; 0: no limit", NULL },
	{ "trusted-addresses", STK_OPT_LIST, SECTION(limits, trusted_addresses), "127.0.0.0/8, ::1", 0, 1000, "Addresses and networks, as 10.0.0.0/8, which these limits per address do not hold for: proxies, for one", NULL },
	{ "max-memory", STK_OPT_BYTES, SECTION(limits, max_memory), "0", 0, INT64_MAX, "Memory of the process, looked at once a second; past it new connections are refused, others go on; 0: three quarters of what the machine has", NULL },
	{ "stanza-rate", STK_OPT_INT, SECTION(limits, stanza_rate), "1000", 0, 10000000, "Frames a second that are read from one connection; what is more waits; 0: no limit", NULL },
	{ "byte-rate", STK_OPT_BYTES, SECTION(limits, byte_rate), "4 MiB", 0, 1099511627776, "Bytes a second, the same; 0: no limit", NULL },
	{ "rate-burst", STK_OPT_SECONDS, SECTION(limits, rate_burst), "10s", 100, 3600000, "As much as the rates give in so long may come at once", NULL },
	{ "rate-patience", STK_OPT_SECONDS, SECTION(limits, rate_patience), "60s", 0, 86400000, "A connection that sends more than the rates for so long is ended; 0: never", NULL },
	{ "idle-timeout", STK_OPT_SECONDS, SECTION(limits, idle_timeout), "5min", 0, 86400000, "A connection that sends nothing for so long is ended; 0: never", NULL },
	{ "max-jobs", STK_OPT_INT, SECTION(limits, max_jobs), "4096", 1, 16384, "Jobs of one module that may wait or run; past it the module has to do without", NULL },
	{ "job-time-limit", STK_OPT_SECONDS, SECTION(limits, job_time_limit), "0", 0, 86400000, "A job of a module that sets no limit itself is written off when it runs for so long, what it holds is lost, and whoever waits for it goes without; choose it far above what jobs take; 0: never", NULL },
	{ 0 },
};

static const struct {
	const char *name;
	const struct stk_option *options;
	const char *what;
} sections[] = {
	{ "server", server_options, "The server as a whole; this section must be there" },
	{ "listen", listen_options, "Where clients connect; more than one when each has a label, as [listen inside]" },
	{ "tls", tls_options, "The certificate and what is spoken inside TLS" },
	{ "log", log_options, "What is logged, and where to" },
	{ "login", login_options, "Times and tries that a client has until it is logged in" },
	{ "limits", limits_options, "What one client, and all together, may take" },
};

struct option_table settings_table(const char *name)
{
	for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++) {
		if (strcmp(sections[i].name, name) == 0) {
			return (struct option_table){ .options = sections[i].options, .stride = sizeof(struct stk_option) };
		}
	}
	return (struct option_table){ 0 };
}

void settings_dump_options(FILE *out)
{
	for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++) {
		struct option_table table = settings_table(sections[i].name);
		option_dump(&table, sections[i].name, sections[i].what, out);
	}
}

bool settings_is_core(const char *name)
{
	return settings_table(name).options != NULL;
}

const char *settings_find_domain(const struct settings *settings, const char *folded)
{
	const char *const *domain = settings->server.domains;
	while (*domain && strcmp(*domain, folded) != 0) {
		domain++;
	}
	return *domain;
}

int settings_log_level(const struct settings *settings)
{
	return LOG_ERR + settings->log.level;
}

/* ---- levels of modules ---- */

/* The level at the end of ITEM, or -1. */
static int level_of(const char *item)
{
	const char *equals = strchr(item, '=');
	for (int i = 0; equals && levels[i]; i++) {
		if (strcmp(levels[i], equals + 1) == 0) {
			return LOG_ERR + i;
		}
	}
	return -1;
}

static bool is_for(const char *item, const char *name)
{
	size_t len = strlen(name);
	return strncmp(item, name, len) == 0 && item[len] == '=';
}

int settings_find_log(const char *const *items, const char *name)
{
	int level = -1;
	for (; items && *items; items++) {
		level = is_for(*items, name) ? level_of(*items) : level;
	}
	return level;
}

/* The module of CONF that NAME was probably meant to be, or NULL. */
static const char *nearest_module(const struct conf *conf, const char *name)
{
	size_t count = 0;
	for (const struct conf_section *section = conf_sections(conf); section; section = section->next) {
		count++;
	}
	struct stk_option *names = calloc(count + 1, sizeof(*names));
	const char *nearest = NULL;
	if (names) {
		count = 0;
		for (const struct conf_section *section = conf_sections(conf); section; section = section->next) {
			if (!settings_is_core(section->name)) {
				names[count++] = (struct stk_option){ .key = section->name, .type = STK_OPT_STR };
			}
		}
		nearest = option_nearest(&(struct option_table){ .options = names, .stride = sizeof(*names) }, name);
	}
	free(names);
	return nearest;
}

int settings_check_log(const struct conf *conf, const char *item, char *err, size_t errlen)
{
	const char *equals = strchr(item, '=');
	char name[64];
	if (!equals || equals == item || equals - item >= (int)sizeof(name)) {
		snprintf(err, errlen, "'%.100s' is not NAME=LEVEL, as message=debug", item);
		return -EINVAL;
	}
	if (level_of(item) < 0) {
		snprintf(err, errlen, "'%.100s': '%.40s' is none of err, warning, notice, info, debug", item, equals + 1);
		return -EINVAL;
	}
	const struct conf_section *section = conf_sections(conf);
	while (section && (settings_is_core(section->name) || !is_for(item, section->name))) {
		section = section->next;
	}
	if (section) {
		return 0;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(equals - item), item);
	const char *nearest = nearest_module(conf, name);
	snprintf(err, errlen, "there is no module '%s' in the configuration%s%s%s", name, nearest ? "; did you mean '" : "",
	         nearest ? nearest : "", nearest ? "'?" : "");
	return -EINVAL;
}

int settings_check_logs(const struct conf *conf, const char *const *items, conf_report_fn *report, void *arg)
{
	char err[400], fault[420];
	for (; items && *items; items++) {
		if (settings_check_log(conf, *items, err, sizeof(err)) < 0) {
			snprintf(fault, sizeof(fault), "--log: %s", err);
			report(fault, arg);
			return -EINVAL;
		}
	}
	return 0;
}

unsigned settings_io_threads(const struct settings *settings)
{
	cpu_set_t usable;
	if (settings->server.io_threads >= 0) {
		return (unsigned)settings->server.io_threads;
	}
	long processors = sched_getaffinity(0, sizeof(usable), &usable) == 0 ? CPU_COUNT(&usable) : sysconf(_SC_NPROCESSORS_ONLN);
	return processors > IO_THREADS_AUTO ? IO_THREADS_AUTO : processors > 1 ? (unsigned)processors - 1 : 0;
}

/* ---- checks ---- */

struct check {
	struct settings *settings;
	conf_report_fn *report;
	void *arg;
	int rc;
};

__attribute__((format(printf, 4, 5))) static void fault(struct check *check, const char *file, unsigned line, const char *fmt, ...)
{
	char text[1024], whole[5200];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	snprintf(whole, sizeof(whole), "%.4000s:%u: %s", file, line, text);
	check->report(whole, check->arg);
	check->rc = -EINVAL;
}

/* Domains are kept folded, since they are compared that way. */
static void check_domains(struct check *check, const struct conf_section *section)
{
	char **domains = (char **)(uintptr_t)check->settings->server.domains;
	for (size_t i = 0; domains && domains[i]; i++) {
		struct stk_jid jid;
		char folded[STK_JID_MAX + 1];
		if (stk_jid_parse(&jid, domains[i]) < 0 || jid.node_len || jid.resource_len || stk_jid_fold(domains[i], folded, sizeof(folded)) < 0) {
			fault(check, section->file, section->line, "domains: '%s' is no domain", domains[i]);
			continue;
		}
		char *copy = strdup(folded);
		if (!copy) {
			check->rc = -ENOMEM;
			return;
		}
		free(domains[i]);
		domains[i] = copy;
		for (size_t j = 0; j < i; j++) {
			if (strcmp(domains[i], domains[j]) == 0) {
				fault(check, section->file, section->line, "domains: '%s' stands there twice", domains[i]);
			}
		}
	}
}

static void check_user(struct check *check, const struct conf_section *section)
{
	const struct settings_server *server = &check->settings->server;
	if (server->user && !getpwnam(server->user)) {
		fault(check, section->file, section->line, "user: there is no user '%s' on this machine", server->user);
	}
	if (server->group && !getgrnam(server->group)) {
		fault(check, section->file, section->line, "group: there is no group '%s' on this machine", server->group);
	}
	if (server->group && !server->user) {
		fault(check, section->file, section->line, "group goes with user, which is missing");
	}
}

static void check_listen(struct check *check, const struct settings_listen *listen)
{
	unsigned char address[sizeof(struct in6_addr)];
	if (listen->address && inet_pton(AF_INET, listen->address, address) != 1 && inet_pton(AF_INET6, listen->address, address) != 1) {
		fault(check, listen->file, listen->line, "address: '%s' is no IP address (IPv4 or IPv6 without brackets)", listen->address);
	}
	for (const struct settings_listen *other = check->settings->listen; other != listen; other = other->next) {
		if (listen->port && other->port == listen->port && other->address && listen->address && strcmp(other->address, listen->address) == 0) {
			fault(check, listen->file, listen->line, "listens on %s port %d, as %s:%u does", listen->address, (int)listen->port,
			      other->file, other->line);
		}
	}
}

static void check_log(struct check *check, const struct conf *conf)
{
	const struct conf_section *section = conf_find(conf, "log", NULL);
	char err[400];
	for (const char *const *item = check->settings->log.modules; section && item && *item; item++) {
		if (settings_check_log(conf, *item, err, sizeof(err)) < 0) {
			fault(check, section->file, section->line, "[log] modules: %s", err);
		}
	}
}

static void check_rest(struct check *check, const struct conf *conf)
{
	const struct settings *settings = check->settings;
	const struct conf_section *tls = conf_find(conf, "tls", NULL), *limits = conf_find(conf, "limits", NULL);
	if (tls && !settings->tls.certificate != !settings->tls.key) {
		fault(check, tls->file, tls->line, "certificate and key belong together: '%s' is missing", settings->tls.key ? "certificate" : "key");
	}
	for (const char *const *each = settings->limits.trusted_addresses; limits && each && *each; each++) {
		if (!gate_is_network(*each)) {
			fault(check, limits->file, limits->line, "trusted-addresses: '%s' is no address and no network", *each);
		}
	}
	if (limits && settings->limits.max_frame_login > settings->limits.max_frame) {
		fault(check, limits->file, limits->line, "max-frame-login must not be larger than max-frame");
	}
}

/* ---- loading ---- */

static void apply(struct check *check, const struct conf_section *section, const char *name, void *part)
{
	struct option_table table = settings_table(name);
	int rc = conf_apply(section, &table, part, check->report, check->arg);
	check->rc = check->rc ? check->rc : rc;
}

static void add_listen(struct check *check, const struct conf_section *section)
{
	struct settings_listen *listen = calloc(1, sizeof(*listen)), **last = &check->settings->listen;
	if (!listen) {
		check->rc = -ENOMEM;
		return;
	}
	while (*last) {
		last = &(*last)->next;
	}
	*last = listen;
	listen->label = section ? section->label : NULL;
	listen->file = section ? section->file : "(default)";
	listen->line = section ? section->line : 0;
	apply(check, section, "listen", listen);
	check_listen(check, listen);
}

static void apply_all(struct check *check, const struct conf *conf)
{
	struct settings *settings = check->settings;
	apply(check, conf_find(conf, "tls", NULL), "tls", &settings->tls);
	apply(check, conf_find(conf, "log", NULL), "log", &settings->log);
	apply(check, conf_find(conf, "login", NULL), "login", &settings->login);
	apply(check, conf_find(conf, "limits", NULL), "limits", &settings->limits);
	settings->have_tls_section = conf_find(conf, "tls", NULL) != NULL;
	for (const struct conf_section *section = conf_sections(conf); section; section = section->next) {
		if (strcmp(section->name, "listen") == 0) {
			add_listen(check, section);
		} else if (section->label) {
			fault(check, section->file, section->line, "[%s %s]: only [listen] takes a label", section->name, section->label);
		}
	}
	if (!settings->listen) {
		add_listen(check, NULL);
	}
	check_log(check, conf);
	check_rest(check, conf);
}

/* Paths do not depend on where the server was started once it runs. */
static int make_base_dir(struct settings *settings, const char *file)
{
	char *copy = strdup(file);
	settings->base_dir = copy ? strdup(dirname(copy)) : NULL;
	free(copy);
	return settings->base_dir ? 0 : -ENOMEM;
}

int settings_load(const char *file, struct conf *conf, struct settings **out, conf_report_fn *report, void *arg)
{
	struct settings *settings = calloc(1, sizeof(*settings));
	if (!settings || make_base_dir(settings, file) < 0) {
		free(settings);
		return -ENOMEM;
	}
	struct check check = { .settings = settings, .report = report, .arg = arg };
	check.rc = conf_read_file(conf, file, report, arg);
	const struct conf_section *server = conf_find(conf, "server", NULL);
	if (!server && check.rc == 0) {
		fault(&check, file, 1, "there is no [server] section; it needs at least domains and state-dir");
	}
	if (server) {
		apply(&check, server, "server", &settings->server);
		check_domains(&check, server);
		check_user(&check, server);
		if (settings->server.plugins_dir) {
			int rc = conf_read_dir(conf, settings->server.plugins_dir, report, arg);
			check.rc = check.rc ? check.rc : rc;
		}
		apply_all(&check, conf);
	}
	if (check.rc < 0) {
		settings_free(&settings);
		return check.rc;
	}
	*out = settings;
	return 0;
}

void settings_free(struct settings **settings_ptr)
{
	struct settings *settings = *settings_ptr;
	if (!settings) {
		return;
	}
	*settings_ptr = NULL;
	struct {
		const char *name;
		void *part;
	} parts[] = { { "server", &settings->server }, { "tls", &settings->tls }, { "log", &settings->log },
		      { "login", &settings->login }, { "limits", &settings->limits } };
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		struct option_table table = settings_table(parts[i].name);
		option_free(&table, parts[i].part);
	}
	while (settings->listen) {
		struct settings_listen *listen = settings->listen;
		struct option_table table = settings_table("listen");
		settings->listen = listen->next;
		option_free(&table, listen);
		free(listen);
	}
	free(settings->base_dir);
	free(settings);
}
