/* SPDX-License-Identifier: MIT */
#ifndef STARTALKD_MODULE_H
#define STARTALKD_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <startalkd/jid.h>
#include <startalkd/session.h>
#include <startalkd/stanza.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a module needs to know of the server. A module is a shared object with one exported constant,
 * stk_module_def, written with STK_MODULE(). The core loads it when the configuration has a section of its name.
 *
 * Threads: everything runs on the router thread but the `work` of a job and the `tx` of a database write.
 * Ownership: arguments are borrowed for the call. What a module registers is withdrawn by the core. Its timers and watches stand still
 * from then on, but may be named until unload() returns.
 * Errors: functions return 0 (or a positive value, where said) or -errno. */

#define STK_ABI_MAGIC 0x53544b31u /* "STK1": read before any other field */
#define STK_ABI_MAJOR 1           /* a break: must be equal on both sides */
#define STK_ABI_MINOR 0           /* an addition: the module's must not be above the server's */

struct stk_module;
struct stk_pending;
struct stk_auth;
struct stk_timer;
struct stk_watch;
struct stk_service;
struct stk_metric;
struct sqlite3;
struct sqlite3_stmt;

/* What a handler or hook answers. Below 0 is -errno: the core sends the stanza error that stands for it. */
enum stk_verdict {
	STK_PASS,  /* not mine, or: go on with the next one */
	STK_DONE,  /* dealt with */
	STK_LATER, /* deferred with stk_defer() */
};

enum stk_hook {
	STK_SESSION_BOUND,     /* the session has its full JID */
	STK_SESSION_AVAILABLE, /* its first presence */
	STK_SESSION_CLOSED,    /* it is gone for routing, its data still readable */
	STK_STANZA_IN,         /* from a session, checked, before its handler */
	STK_STANZA_OUT,        /* about to be sent to a session */
	STK_ROUTE,             /* a stanza that a module hands to stk_send() for a user: STK_DONE takes it over (keep it with _ref) */
	STK_SENT,              /* what was sent with stk_send_tracked() up to `mark` is in the kernel's hands */
	STK_DELIVERED,         /* ... is with the client: TCP acknowledged it, and a frame came after that */
	STK_SESSION_ELIGIBLE,  /* it may get messages to the bare JID from now on: available with priority >= 0, newly so */
	STK_SESSION_OPENED,    /* a new connection, nothing read from it yet: only its address is known. It may be ended */
	STK_UNDELIVERED,       /* a message or presence that nobody can be given; reason is why, as -errno; session its sender, NULL: a module.
	                        * STK_DONE or STK_LATER takes it over (keep it with _ref): then it is not sent back */
	STK_STORED,            /* a message is on disk, as it was sent; session: NULL. All are told, also while the server stops */
	STK_AUDIT,             /* something that operators have to be able to look up later: `audit` says what. session: NULL */
	STK_REOPEN,            /* SIGUSR1: files that only grow have been moved aside, open them anew. session: NULL */
	STK_HOOKS              /* how many there are */
};

enum stk_opt_type {
	STK_OPT_END,
	STK_OPT_BOOL,    /* bool: on/off, yes/no, true/false */
	STK_OPT_INT,     /* int64_t */
	STK_OPT_SECONDS, /* double: 500ms, 30s, 5min, 2h, 1d; a unit is required but for 0 */
	STK_OPT_BYTES,   /* int64_t: 4096 B, 4 KiB, 2 MiB, 1 GiB; a bare number is bytes */
	STK_OPT_STR,     /* const char * */
	STK_OPT_PATH,    /* const char *: relative to the file it is written in */
	STK_OPT_ENUM,    /* int: index into names */
	STK_OPT_LIST,    /* const char *const *: NULL-terminated, from a comma-separated value */
};

/* One option: the only source of its default, range, and documentation. A table ends with {0}. */
struct stk_option {
	const char *key;
	enum stk_opt_type type;
	size_t offset;            /* in the configuration struct */
	const char *dflt;         /* as it would be written in the file; NULL: required, or NULL for strings when min is 0 */
	int64_t min, max;         /* INT, BYTES: the value; SECONDS: milliseconds; STR, LIST: length, count; 0,0: any */
	const char *help;         /* one sentence */
	const char *const *names; /* ENUM: NULL-terminated */
};

struct stk_module_def {
	uint32_t magic;
	uint16_t abi_major, abi_minor;
	uint32_t size;
	const char *name, *version;
	const char *const *needs; /* NULL-terminated names of modules that must be loaded before, or NULL */
	const struct stk_option *options;
	uint16_t option_size;
	size_t conf_size;         /* the core parses the module's section into a struct of this size */
	int (*check)(const void *conf, char *err, size_t errlen); /* pure; also run by startalkd --check */
	int (*load)(struct stk_module *module, const void *conf); /* register here and only here; conf lives until unload */
	int (*reload)(struct stk_module *module, const void *conf); /* NULL: unload, then load; jobs under way may still read the conf before */
	void (*unload)(struct stk_module *module);                /* free own state; the rest is withdrawn */
	void *reserved[4];
};

#define STK_EXPORT __attribute__((visibility("default")))
#define STK_MODULE(...)                                                                                                \
	STK_EXPORT extern const struct stk_module_def stk_module_def;                                                  \
	const struct stk_module_def stk_module_def = { .magic = STK_ABI_MAGIC,                                         \
		.abi_major = STK_ABI_MAJOR,                                                                            \
		.abi_minor = STK_ABI_MINOR,                                                                            \
		.size = sizeof(struct stk_module_def),                                                                 \
		.option_size = sizeof(struct stk_option),                                                              \
		__VA_ARGS__ }

#ifdef __cplusplus
/* The same in C++, which has no designated initialisers before C++20: FILL is a function that takes a struct stk_module_def &
 * and sets name, load and what else there is. Since 0.1. */
#define STK_MODULE_CXX(fill)                                                                                           \
	extern "C" {                                                                                                   \
	STK_EXPORT extern const struct stk_module_def stk_module_def;                                                  \
	}                                                                                                              \
	static struct stk_module_def stk_module_make()                                                                 \
	{                                                                                                              \
		struct stk_module_def def = {};                                                                        \
		def.magic = STK_ABI_MAGIC;                                                                             \
		def.abi_major = STK_ABI_MAJOR;                                                                         \
		def.abi_minor = STK_ABI_MINOR;                                                                         \
		def.size = sizeof(def);                                                                                \
		def.option_size = sizeof(struct stk_option);                                                           \
		fill(def);                                                                                             \
		return def;                                                                                            \
	}                                                                                                              \
	const struct stk_module_def stk_module_def = stk_module_make()
#endif

struct stk_match {
	uint32_t size; /* sizeof(struct stk_match) */
	enum stk_element element;
	const char *type, *xmlns; /* as on the stanza ("get", "chat" ...; see stk_stanza_xmlns); NULL: any */
	const char *domain;       /* of the stanza's `to`; NULL: any of the configuration's, none that a module serves */
};

/* What happened, and to whom. Strings but `event` may be NULL; never a credential. Borrowed for the call. */
struct stk_audit {
	uint32_t size;       /* sizeof(struct stk_audit) */
	const char *event;   /* one word: "login", "login-refused", "logout", "kick", "account", "config", "reload", "command", or your own */
	const char *user;    /* whom it is about: a JID, or what a client claims to be */
	const char *address; /* of that user's client, "ADDRESS:PORT" */
	const char *by;      /* who did it, when that was not the user: "uid 0, pid 77" */
	const char *reason;  /* for people */
	int code;            /* of StreamEnd; 0: none */
};

struct stk_event {
	uint32_t size;
	enum stk_hook hook;
	struct stk_session *session;
	struct stk_stanza *stanza; /* NULL for the session hooks */
	int reason;                /* STK_SESSION_CLOSED: StreamEnd code, 0 when the peer went; STK_UNDELIVERED: -errno */
	uint64_t mark;             /* STK_SENT, STK_DELIVERED */
	const struct stk_audit *audit; /* STK_AUDIT */
};

struct stk_mech {
	uint32_t size;    /* sizeof(struct stk_mech) */
	const char *name; /* "PLAIN" */
	bool needs_tls;   /* offered inside TLS only */
	/* One message of the client, decoded from base64. Answer now or later, exactly once, with stk_auth_succeed(),
	 * stk_auth_fail() or stk_auth_challenge(), after which the client's next message comes here; below 0 fails with reason bad-protocol. IN is wiped after the call. */
	int (*step)(struct stk_module *module, struct stk_auth *auth, const uint8_t *in, size_t len);
	/* The client is gone: AUTH is invalid after this call. */
	void (*abort)(struct stk_module *module, struct stk_auth *auth);
};

/* Who is at the other end of a session that a module opens. Borrowed for the call. */
struct stk_peer {
	uint32_t size;       /* sizeof(struct stk_peer) */
	const char *address; /* for logs and for the limits on guessing: "ADDRESS:PORT", or any name that fits on 55 bytes */
	const char *domain;  /* one of the configuration's; NULL: the first */
	bool secure;         /* it cannot be listened to */
	const char *user;    /* the node of the account that it is, if the transport is sure of that; NULL: it has to log in */
};

/* What carries the stanzas of sessions instead of the server's own connections. CONN is what stk_session_open() was given. The functions
 * run on the router thread, perhaps within another module's call, so they queue or write and return. */
struct stk_transport {
	uint32_t size; /* sizeof(struct stk_transport) */
	const char *name;
	/* STANZA, which is not to be changed, for the client; keep it with _ref. MARK above 0: tell stk_session_delivered() when the client has
	 * it and all before it. Below 0 ends the session. */
	int (*send)(struct stk_module *module, void *conn, struct stk_stanza *stanza, uint64_t mark);
	/* The last call for CONN, once for every session that was opened. CODE is that of StreamEnd; 0 with REASON NULL after stk_session_close(). */
	void (*end)(struct stk_module *module, void *conn, int code, const char *reason);
	/* Read nothing more from the client, or go on. May be NULL. */
	void (*hold)(struct stk_module *module, void *conn, bool hold);
	/* What came of stk_session_auth(): the account's node, or NULL with a REASON ("not-authorized"). May be NULL when peers have a user. */
	void (*login)(struct stk_module *module, void *conn, const char *user, const char *reason);
	/* A challenge of the mechanism. NULL: mechanisms that need one fail. */
	int (*challenge)(struct stk_module *module, void *conn, const uint8_t *out, size_t len);
};

/* A login that was refused. */
struct stk_refusal {
	uint32_t size;
	unsigned count;      /* how often the same happened from this address */
	int64_t at;          /* the last time, ms since the epoch */
	const char *address; /* then, as "ADDRESS:PORT" */
	const char *why;     /* as the log has it */
	bool secure;         /* inside TLS */
};

/* How a user or an address stands with the limits on guessing of the section [login]. */
struct stk_auth_limit {
	uint32_t size;      /* sizeof(struct stk_auth_limit), set by the caller */
	unsigned failures;  /* in the minute that runs; they start anew with a refusal */
	int64_t tries;      /* as many are allowed; 0: any number */
	double refused_for; /* seconds; 0: not refused */
	bool trusted;       /* an address that somebody logged in from lately: never refused */
};

/* The server as a whole. */
struct stk_status {
	uint32_t size; /* sizeof(struct stk_status), set by the caller */
	const char *version;
	int64_t started_at;                  /* ms since the epoch */
	size_t connections, sessions, users; /* of clients; bound; with a bound session */
};

/* A module, and what the core has counted of it since it was loaded. */
struct stk_module_info {
	uint32_t size;
	const char *name, *version;
	uint64_t calls;        /* of its handlers, hooks, timers, watches, posts and done callbacks */
	uint64_t stanzas;      /* that it dealt with: of its handlers, and of hooks that did not pass them on */
	uint64_t microseconds; /* on the router thread in these calls, without what they called of other modules */
	uint64_t slow_calls;   /* over 50 ms */
	uint64_t jobs, jobs_under_way, jobs_lost; /* run; waiting or running; written off */
};

/* A figure that a module counts itself. */
struct stk_metric_info {
	uint32_t size;
	const char *name, *help; /* "MODULE_NAME" */
	int64_t value;
};

enum stk_tls { STK_TLS_OFF, STK_TLS_OPTIONAL, STK_TLS_REQUIRED, STK_TLS_DIRECT };

typedef int stk_stanza_fn(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg);
typedef int stk_hook_fn(struct stk_module *module, const struct stk_event *event, void *arg);
typedef void stk_timer_fn(struct stk_module *module, void *arg);
typedef void stk_io_fn(struct stk_module *module, int fd, unsigned events, void *arg); /* STK_READ, STK_WRITE */
typedef void stk_post_fn(struct stk_module *module, void *arg);
/* ANSWER is the result or error that the client sent, with STATUS 0, or NULL with -ETIMEDOUT, -ENOTCONN: the session is gone, or -ECANCELED: the
 * module is unloaded. */
typedef void stk_iq_fn(struct stk_module *module, struct stk_stanza *answer, int status, void *arg);
typedef bool stk_session_fn(struct stk_session *session, void *arg); /* false: stop */
typedef void stk_work_fn(struct stk_module *module, void *arg); /* worker thread: only stk_db(), stk_log(), stk_post() */
typedef bool stk_refusal_fn(const struct stk_refusal *refusal, void *arg); /* false: stop */
typedef int stk_tx_fn(struct stk_module *module, struct sqlite3 *db, void *arg); /* inside the writer's transaction */
/* Router thread, once; -ECANCELED at unload. Never for a job that was written off. */
typedef void stk_done_fn(struct stk_module *module, int status, void *arg);
/* Router thread: a job of WORK with ARG was written off. WORK may be using what is behind ARG, now and later: compare it, do not follow it. */
typedef void stk_lost_fn(struct stk_module *module, stk_work_fn *work, const void *arg);

/* What a module claims, in load(). A second claim of the same (element, type, xmlns) is a load error. A handler for
 * exactly (type, xmlns) goes before one for the xmlns, that before one for the type, that before one for the element.
 * 0, -EPERM outside load(), -EEXIST, -EINVAL, -ENOMEM. Since 0.1. */
int stk_handle(struct stk_module *module, const struct stk_match *match, stk_stanza_fn *fn, void *arg);
/* Hooks of higher priority run first, those of equal priority in the order of the configuration. STK_DONE or an
 * error from STK_STANZA_IN and STK_STANZA_OUT keeps the stanza from going on. Since 0.1. */
int stk_on(struct stk_module *module, enum stk_hook hook, int priority, stk_hook_fn *fn, void *arg);
int stk_mech(struct stk_module *module, const struct stk_mech *mech);
/* Serves a domain beside those of the configuration ("conference.example.org"): what clients send to anybody in it goes to handlers whose match
 * names it, and to no other. What modules stk_send() there does, too, with session NULL; IQs cannot be sent there by
 * modules (-EOPNOTSUPP). Errors as stk_handle(). Since 0.1. */
int stk_domain(struct stk_module *module, const char *domain);
/* A place for own data in each session: returns the slot, 0 or above. DESTROY (may be NULL) runs with the session's end. */
int stk_session_slot(struct stk_module *module, void (*destroy)(void *data));

/* Services: what one module offers to others. A service is a name ("archive"), a version and a constant table of functions whose
 * first argument is the module that offers it; the tables that the server's own modules offer are in <startalkd/service.h>.
 * stk_provide() is for load(); one provider a name. The users' major must be equal, their minor not above. TABLE
 * lives as long as the module is loaded. Errors as stk_handle(). Since 0.1. */
int stk_provide(struct stk_module *module, const char *service, uint16_t major, uint16_t minor, const void *table);
/* A reference to a service that may come and go; the core frees it when MODULE is unloaded. NULL: out of memory. */
struct stk_service *stk_use(struct stk_module *module, const char *service, uint16_t major, uint16_t minor);
/* The table of who offers the service just now, and that module, or NULL. Good until the caller returns to the core. */
const void *stk_service(const struct stk_service *service, struct stk_module **provider);
/* Calls EACH with the names of all services on offer that begin with PREFIX, until it returns false. */
void stk_services(struct stk_module *module, const char *prefix, bool (*each)(const char *service, void *arg), void *arg);

/* SASL. Since 0.1. */
const char *stk_auth_domain(const struct stk_auth *auth);  /* the stream's domain */
const char *stk_auth_address(const struct stk_auth *auth); /* peer as "ADDRESS:PORT" */
bool stk_auth_secure(const struct stk_auth *auth);         /* inside TLS */
/* May USER (bare JID, folded) try from this address now? False past the limits of the section [login]: then call
 * stk_auth_fail() without looking at the credential. */
bool stk_auth_allowed(struct stk_auth *auth, const char *user);
/* Sends OUT to the client, whose answer goes to step(). -EOPNOTSUPP: the client's transport has no challenges, as that of the StarTalk
 * protocol; then fail. */
int stk_auth_challenge(struct stk_auth *auth, const uint8_t *out, size_t len);
/* USER is the node as registered, without domain. Both end AUTH. */
void stk_auth_succeed(struct stk_auth *auth, const char *user);
/* REASON goes to the client (NULL: "not-authorized"), WHY to the log only. The reply leaves at the fixed instant that the section [login]
 * sets, whenever this is called. USER as given by the client, may be NULL. */
void stk_auth_fail(struct stk_auth *auth, const char *user, const char *reason, const char *why);
/* How USER (bare JID, folded) stands with the limits or, when USER is NULL, ADDRESS ("ADDRESS:PORT") does. */
void stk_auth_limit(struct stk_module *module, const char *user, const char *address, struct stk_auth_limit *limit);
/* Calls EACH with the logins of USER (bare JID) that were refused lately, the latest first, as far as they are remembered. */
void stk_auth_refusals(struct stk_module *module, const char *user, stk_refusal_fn *each, void *arg);

/* Stanzas out. Take ownership in every case. Since 0.1.
 * stk_send() routes by `to`: full JID: that session; bare JID: the user's available sessions. 0 or above: how many sessions got
 * it; -EINVAL: no or bad `to`; -ENOENT: nobody there; -ENOMEM. */
int stk_send(struct stk_module *module, struct stk_stanza *stanza);
int stk_send_to(struct stk_session *session, struct stk_stanza *stanza); /* to this session whatever `to` says */
/* As stk_send_to; STK_DELIVERED hooks are told when the client has it, and, when TELL_SENT, STK_SENT hooks when it has left. MARK is
 * the caller's: above 0 and growing from call to call on one session. One module may track the stanzas of a session. */
int stk_send_tracked(struct stk_session *session, struct stk_stanza *stanza, uint64_t mark, bool tell_sent);
/* Sends STANZA back to SESSION, which sent it, as the error that ERROR (-errno) stands for: an IQ error, or a message of type error with
 * header errcode. Does nothing for what must not be answered, nor for what an STK_UNDELIVERED hook takes over. Borrows STANZA. */
void stk_bounce(struct stk_session *session, struct stk_stanza *stanza, int error);
/* Asks the client at the full JID of REQUEST's `to`, an IQ get or set (taken; it gets an id of its own, and `from`, when it has none, is the domain);
 * FN is told once. 0, or FN is not called: -ENOENT: no such session, -EINVAL, -ENOMEM, -ECANCELED: unloading, or a hook kept it. Clients of today
 * answer nothing. Since 0.1. */
int stk_iq(struct stk_module *module, struct stk_stanza *request, unsigned timeout_ms, stk_iq_fn *fn, void *arg);
/* For the module that keeps messages: runs the STK_STORED hooks, since MESSAGE (borrowed) is on disk now. Since 0.1. */
void stk_stored(struct stk_module *module, struct stk_stanza *message);
/* Tells the STK_AUDIT hooks of ENTRY. Since 0.1. */
void stk_audit(struct stk_module *module, const struct stk_audit *entry);
/* Answers an IQ get or set with ANSWER from stk_stanza_result() (NULL: an empty result). -EALREADY: answered before. */
int stk_reply(struct stk_stanza *request, struct stk_stanza *answer);
/* Defers the answer: then return STK_LATER. Past TIMEOUT_MS the core answers remote-server-timeout. NULL: out of
 * memory, not a request. */
struct stk_pending *stk_defer(struct stk_stanza *request, unsigned timeout_ms);
/* Answers a deferred request: ANSWER (taken), or when it is NULL the error that -STATUS stands for, or an empty
 * result for 0. 0, or -ECANCELED: timed out, or the session is gone. PENDING is invalid after the call. */
int stk_resume(struct stk_pending *pending, struct stk_stanza *answer, int status);

/* Sessions: calls EACH for those of a bare JID, the one of a full JID, or all (NULL). EACH may end sessions.
 * Returns how many were visited. Since 0.1. */
int stk_sessions(struct stk_module *module, const char *jid, stk_session_fn *each, void *arg);
struct stk_session *stk_session_find(struct stk_module *module, uint64_t id); /* or NULL: gone */

/* Sessions over a transport of the module's own. stk_session_open() is for the router thread, after load(); ID names the session in what follows.
 * STK_SESSION_OPENED hooks run. -EINVAL, -EHOSTDOWN: no such domain, -EMFILE: max-connections, -ECONNREFUSED: a hook has ended it,
 * -ECANCELED: the module or the server is about to go, -ENOMEM. When the module is unloaded its sessions end. Since 0.1. */
int stk_session_open(struct stk_module *module, const struct stk_transport *transport, void *conn, const struct stk_peer *peer, uint64_t *id);
/* What the client does; from any thread, also from inside send(); what is said of a session that is gone does nothing. 0, -EINVAL, -ENOMEM.
 * A stanza (taken): iq, message or presence, not sealed; binding a resource is an iq, too. */
int stk_session_input(struct stk_module *module, uint64_t id, struct stk_stanza *stanza);
/* One SASL message, the first with its MECHANISM, an answer to a challenge without. Tells login() of the transport. */
int stk_session_auth(struct stk_module *module, uint64_t id, const char *mechanism, const uint8_t *in, size_t len);
int stk_session_delivered(struct stk_module *module, uint64_t id, uint64_t mark); /* the client has everything up to MARK */
int stk_session_close(struct stk_module *module, uint64_t id); /* the client is gone */

/* Timers: once AFTER seconds, then EVERY seconds (0: once only). NULL: out of memory. Since 0.1. */
struct stk_timer *stk_timer(struct stk_module *module, double after, double every, stk_timer_fn *fn, void *arg);
void stk_timer_stop(struct stk_timer **timer); /* stores NULL; NULL and *NULL are accepted */

/* Watches FD, which stays the module's, for STK_READ and STK_WRITE. 0 with *WATCH, or -errno. stk_watch_set() changes for
 * what (0: nothing for now). Since 0.1. */
#define STK_READ  1u
#define STK_WRITE 2u
int stk_watch(struct stk_module *module, int fd, unsigned events, stk_io_fn *fn, void *arg, struct stk_watch **watch);
void stk_watch_set(struct stk_watch *watch, unsigned events);
void stk_watch_stop(struct stk_watch **watch); /* stores NULL; NULL and *NULL are accepted */

/* Work that blocks or computes. WORK runs on a worker, then DONE (may be NULL) on the router thread. Jobs of a module with equal KEY run one after
 * the other in order; 0: any time. -EAGAIN: the queue is full, or the module has `max-jobs` of [limits] under way; -ECANCELED: unloading.
 * Since 0.1. */
int stk_job(struct stk_module *module, uint64_t key, stk_work_fn *work, stk_done_fn *done, void *arg);
/* How long a job of the module may run, not counting its time in the queue; 0, the default: as the operator says (`job-time-limit` of
 * [limits]). In load(). One that takes longer is written off: DONE is never called, ARG is lost, KEY is free, and the module is unloaded
 * without it. So ARG must not lead to anything that unload() frees; stk_db(), stk_log(), stk_post() and stk_metric_add() still may be
 * called. A stop of the server writes off what has not ended after 10 s. 0, -EPERM, -EINVAL. */
int stk_job_limit(struct stk_module *module, double seconds);
/* FN is told of each job of the module that is written off, so that what waits for it can go on without, but not when the module is about
 * to be unloaded. In load(). 0, -EPERM. Since 0.1. */
int stk_job_lost(struct stk_module *module, stk_lost_fn *fn);
/* Runs FN on the router thread soon. From any thread, up to the end of unload(). 0, -ENOMEM, or -ECANCELED: unloading. */
int stk_post(struct stk_module *module, stk_post_fn *fn, void *arg);

/* Storage: this thread's connection to FILE (a name in the state directory, "startalk.db"), opened, in WAL mode and brought up to
 * date by MIGRATIONS (SQL scripts, NULL-terminated; the n-th brings the module's tables to version n; the list only grows). NULL: logged. Workers, load() and
 * unload() only. The connection is the core's: never close it. Since 0.1. */
struct sqlite3 *stk_db(struct stk_module *module, const char *file, const char *const *migrations);
/* Runs TX in the one writer's open transaction, commits it, perhaps with others, then DONE. TX returns 0, or -errno, which
 * rolls back what it did and reaches DONE as status. DONE (may be NULL) means: on disk. */
int stk_db_write(struct stk_module *module, const char *file, stk_tx_fn *tx, stk_done_fn *done, void *arg);
/* As stk_db_write() for a TX that leaves nothing half done when it fails, such as a single insert: nothing is rolled back
 * then, and it costs less. */
int stk_db_append(struct stk_module *module, const char *file, stk_tx_fn *tx, stk_done_fn *done, void *arg);
/* What "on disk" means for FILE: FULL (the default) survives a loss of power, NORMAL only one of the process, OFF neither for
 * certain. In load(), before the first write. 0, -EPERM, -ENOMEM. */
enum stk_durability { STK_DURABLE_FULL, STK_DURABLE_NORMAL, STK_DURABLE_OFF };
int stk_db_durability(struct stk_module *module, const char *file, enum stk_durability durability);
/* The statement for SQL on DB, a connection from stk_db() or a TX: prepared once a connection, handed out reset and without bindings. It is
 * the core's: sqlite3_reset() it when done with its rows, never finalize it. SQL must be a constant: it is known
 * by its address. NULL: logged. */
struct sqlite3_stmt *stk_db_statement(struct sqlite3 *db, const char *sql);

/* Reads the configuration files anew and makes them take effect, wholly or, when anything is wrong, not at all; DRY_RUN: only tells
 * what would be done. EACH gets a line for every fault and every change. 0, or -errno: nothing has changed. From a callback of a
 * descriptor, timer or post only. A module whose section has changed gets reload(), or, without one, is loaded anew while the old one
 * ends; one whose section is gone is unloaded. Since 0.1. */
int stk_reload(struct stk_module *module, bool dry_run, void (*each)(const char *line, void *arg), void *arg);

/* The server. Since 0.1. Each function calls EACH until it returns false. */
void stk_status(struct stk_module *module, struct stk_status *status);
void stk_modules(struct stk_module *module, bool (*each)(const struct stk_module_info *info, void *arg), void *arg);
/* The metrics of all modules. */
void stk_metrics(struct stk_module *module, bool (*each)(const struct stk_metric_info *info, void *arg), void *arg);
/* Tells what there is to know of the loaded module NAME as facts, a KEY with a VALUE each, one after the other: module, version, file, abi,
 * need, changed ("yes": another file lies there now), section ("FILE:LINE"), handler, domain, hook, mechanism, service; and option, which option-type,
 * option-range, option-default, option-required, option-help, option-value and option-set (where) follow. What there are several of has
 * a fact each; what there is not has none. NAME NULL: config (the file), abi, then the short facts of all modules. Later versions may
 * know more keys. 0, or -ENOENT: it is not loaded. */
int stk_describe(struct stk_module *module, const char *name, void (*each)(const char *key, const char *value, void *arg), void *arg);
/* ADDRESS is "ADDRESS:PORT", with the port that it really is. */
void stk_listeners(struct stk_module *module, bool (*each)(const char *address, enum stk_tls tls, void *arg), void *arg);
/* Is this startalkd --plan? Then load() must leave alone what belongs to a server that may be running. */
bool stk_planning(const struct stk_module *module);

/* Metrics: figures that the module counts and the operator sees (startalkctl metrics), as "MODULE_NAME". In load(). NAME has a to z, 0 to 9 and _
 * only; HELP is one sentence. The core frees it after unload(). NULL: a wrong name, or a second one, logged; out of memory. Since 0.1. */
struct stk_metric *stk_metric(struct stk_module *module, const char *name, const char *help);
/* Adds N, or sets a figure that goes up and down. From any thread. NULL is accepted. */
void stk_metric_add(struct stk_metric *metric, int64_t n);
void stk_metric_set(struct stk_metric *metric, int64_t value);

/* The rest. Since 0.1. */
int64_t stk_now_ms(void); /* the clock, ms since the epoch; never goes back while the process runs. From any thread. */
void stk_log(struct stk_module *module, int syslog_level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void *stk_data(struct stk_module *module);
void stk_set_data(struct stk_module *module, void *data);
const char *stk_state_dir(struct stk_module *module);             /* absolute path, without a slash at its end */
const char *const *stk_domains(struct stk_module *module);        /* served domains, folded; NULL-terminated; the first is the default */

#ifdef __cplusplus
}
#endif
#endif
