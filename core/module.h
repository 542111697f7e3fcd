/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_MODULE_H
#define STK_CORE_MODULE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <startalkd/module.h>

#include <ev.h>

#include "core/conf.h"
#include "core/settings.h"

struct server;
struct registry_table;

/* What one module has registered. */
struct handler {
	struct handler *next; /* of its module */
	struct stk_module *module;
	enum stk_element element;
	char *type, *xmlns, *domain; /* NULL: any */
	stk_stanza_fn *fn;
	void *arg;
};

struct hook {
	struct hook *next; /* of its kind, in the order they run */
	struct stk_module *module;
	int priority;
	stk_hook_fn *fn;
	void *arg;
};

struct mech {
	struct mech *next;
	struct stk_module *module;
	struct stk_mech mech;
	char *name;
};

struct stk_timer {
	struct ev_timer ev;
	struct stk_timer *next, **at; /* of its module */
	struct stk_module *module;
	stk_timer_fn *fn;
	void *arg;
};

/* A descriptor that a module watches. */
struct stk_watch {
	struct ev_io ev;
	struct stk_watch *next, **at; /* of its module */
	struct stk_module *module;
	stk_io_fn *fn;
	void *arg;
};

/* A domain that a module serves beside those of the configuration. */
struct served {
	struct served *next;
	struct stk_module *module;
	char name[]; /* folded */
};

/* What a module offers to others. */
struct provided {
	struct provided *next;
	struct stk_module *module;
	char *name;
	uint16_t major, minor;
	const void *table;
};

/* A module's reference to what another one offers, or will, or did. */
struct stk_service {
	struct stk_service *next; /* of its module */
	struct stk_module *module;
	char *name;
	uint16_t major, minor;
	const struct provided *found;
	unsigned seen; /* the registry's generation that FOUND is of */
};

/*  state     | goes on with                                        | to
 *  LOADING   | load() has returned 0 and its claims are published  | LIVE
 *  LIVE      | a reload that leaves it out, or replaces it         | SUSPENDED
 *  SUSPENDED | the reload failed / took effect                     | LIVE / CLOSING
 *  CLOSING   | nothing of it is under way any more: unload()       | freed  */
enum module_state { MODULE_LOADING, MODULE_LIVE, MODULE_SUSPENDED, MODULE_CLOSING };

/* What a module has cost. Router thread. */
struct module_figures {
	uint64_t calls, stanzas, slow_calls; /* stanzas: those it dealt with */
	double seconds;                      /* on the router thread, without what it called of other modules */
	uint64_t jobs, jobs_lost;            /* done; written off */
};

/* A figure that a module counts itself. */
struct stk_metric {
	struct stk_metric *next; /* of its module */
	char *name, *help;
	_Atomic int64_t value;
};

/* Which file the code came from, to tell that another one is there now. */
struct module_file {
	uint64_t device, inode;
	int64_t changed_ns;
};

struct stk_module {
	struct stk_module *next; /* in load order */
	struct server *server;
	const struct stk_module_def *def;
	char *name, *path;
	enum module_state state;
	bool loaded;             /* load() has returned 0, so unload() is due */
	unsigned order;          /* in the configuration */
	atomic_uint under_way;   /* jobs, writes and posts */
	atomic_bool gone;        /* unloaded, kept only for jobs that were written off and still run */
	unsigned jobs_under_way, jobs_lost; /* wait or run; written off and still running */
	double job_limit;        /* seconds; 0: as the operator says */
	stk_lost_fn *job_lost;   /* told of those that are written off, or NULL */
	atomic_int log_level;    /* -1: as for all */
	struct module_figures figures;
	struct stk_metric *metrics;
	atomic_uint posting;     /* threads that are in stk_post() */
	atomic_bool no_posts;
	struct module_file file;
	void *conf, *data;
	struct old_conf *old_confs; /* freed when nothing is under way that might read them */
	struct handler *handlers;
	struct stk_timer *timers;
	struct stk_watch *watches;
	struct stk_service *services;
	struct stk_pending *pendings;
};

#define SESSION_SLOTS_MAX 16

struct module_registry {
	struct stk_module *modules, **last;
	struct stk_module *tombs; /* unloaded, but jobs that were written off still name them */
	struct registry_table *handlers; /* live ones, by element, type and xmlns */
	struct hook *hooks[STK_HOOKS];
	struct mech *mechs;
	struct provided *provided;
	struct served *domains;
	size_t narrow; /* live handlers that are for one domain only */
	unsigned generation; /* grows when what is provided changes */
	struct {
		struct stk_module *module;
		void (*destroy)(void *data);
	} slots[SESSION_SLOTS_MAX];
	int slot_count;
	bool closing; /* some module is */
};

/* Opens the shared object of NAME and checks its definition. NULL with ERR a text naming module, file and reason. */
const struct stk_module_def *module_open(const struct settings *settings, const char *name, char **path, char *err, size_t errlen);
/* The file that NAME would be loaded from, or the last place where it was looked for. SETTINGS may be NULL. */
bool module_find_file(const struct settings *settings, const char *name, char *out, size_t size);
const char *module_element_name(int element);
const char *module_hook_name(int kind);
struct option_table module_options(const struct stk_module_def *def);
/* Opens and checks every module that the configuration names, those it needs before it, and loads them unless CHECK_ONLY.
 * 0 or -errno; faults are reported. What was loaded before a fault is left to module_quiesce_all and module_unload_all. */
int module_load_all(struct server *server, bool check_only, conf_report_fn *report, void *arg);
/* Does what MODULE has claimed bar others from it? Not when it is about to go. */
static inline bool module_counts(const struct stk_module *module)
{
	return module->state == MODULE_LOADING || module->state == MODULE_LIVE;
}
struct stk_module *module_find(const struct server *server, const char *name); /* not one that is closing; or NULL */
/* A module for SECTION, opened, its options parsed and checked, not in the list yet. NULL: faults were reported. */
struct stk_module *module_prepare(struct server *server, const struct conf_section *section, conf_report_fn *report, void *arg);
void module_discard(struct stk_module *module); /* one that was prepared only */
/* Frees MODULE when it is unloaded and nothing names it any more. */
void module_bury(struct stk_module *module);
/* The log level of MODULE is what SETTINGS and the command line say. */
void module_set_log(struct stk_module *module, const struct settings *settings);
/* A line about MODULE, "module: NAME: ...", at the level that is set for it. From any thread. */
void module_log(const struct stk_module *module, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool module_logs(const struct stk_module *module, int level);
/* Parses SECTION for MODULE, which has it loaded already, into a new struct. NULL: faults were reported. */
void *module_parse(const struct stk_module *module, const struct conf_section *section, conf_report_fn *report, void *arg);
/* Frees CONF of MODULE when nothing is under way that might read it: with the next one that is retired, or with the module. */
void module_retire_conf(struct stk_module *module, void *conf);
void module_free_conf(const struct stk_module *module, void *conf);
/* Loads and publishes. 0, or -errno, logged; then the module is in the list and has to be closed. */
int module_load(struct server *server, struct stk_module *module);
void module_suspend(struct stk_module *module); /* acts no more, but can be revived */
int module_revive(struct stk_module *module);
/* It is withdrawn for good; module_reap() unloads it when nothing of it is under way. */
void module_close(struct stk_module *module);
void module_reap(struct server *server);
void module_sort_hooks(struct server *server); /* after the order of modules has changed */
bool module_file_changed(const struct stk_module *module);
/* Withdraws what modules registered, ends their timers and jobs, answers what is pending. */
void module_quiesce_all(struct server *server);
void module_unload_all(struct server *server);

/* The handler for a stanza to somebody in DOMAIN, or NULL. */
const struct handler *module_find_handler(const struct server *server, const struct stk_stanza *stanza, const char *domain);
/* The name of the domain FOLDED if a live module serves it, or NULL. */
const char *module_find_domain(const struct server *server, const char *folded);
/* Is there an account of this folded bare JID? True when no module can tell. */
bool module_has_user(struct server *server, const char *bare);
const struct mech *module_find_mech(const struct server *server, const char *name);
/* Runs the hooks of EVENT; the first verdict that is not STK_PASS, or STK_PASS. */
int module_run_hooks(struct server *server, const struct stk_event *event);
/* See stk_audit(). */
void module_audit(struct server *server, const struct stk_audit *entry);

/* For what also runs without modules, in tests. */
static inline const char *module_name(const struct stk_module *module)
{
	return module ? module->name : "-";
}

/* Around every call into a module: counts it and its time, logs one that keeps the router over 50 ms, and names it in a crash. Time in calls inside of it is
 * theirs alone. */
double module_enter(const struct stk_module *module, const char *what);
void module_leave(struct stk_module *module, const char *what, double entered);

#endif
