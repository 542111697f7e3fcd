/* SPDX-License-Identifier: MIT */
/* The server as a whole: starts its parts in order, runs the loop, takes signals, and stops in order. */

#include "core/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/db.h"
#include "core/job.h"
#include "core/log.h"
#include "core/notify.h"
#include "core/pool.h"
#include "core/privilege.h"
#include "core/reload.h"
#include "core/router.h"
#include "proto/frame.h"

#define ROUNDS     4   /* of mail without a look at timers and sockets */
#define STOP_BOUND 5.0 /* seconds that connections have to take their StreamEnd */

/* ---- start ---- */

static int make_state_dir(const char *dir)
{
	struct stat st;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		int rc = -errno;
		log_write(LOG_ERR, "server: %s: the state directory cannot be made: %s", dir, strerror(-rc));
		return rc;
	}
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
		log_write(LOG_ERR, "server: %s: the state directory is no directory", dir);
		return -ENOTDIR;
	}
	if (st.st_uid != geteuid()) {
		log_write(LOG_WARNING, "server: %s: the state directory is of uid %u, the server runs as uid %u; chown -R it to the one that is "
		                       "meant", dir, (unsigned)st.st_uid, (unsigned)geteuid());
	}
	if (access(dir, R_OK | W_OK | X_OK) < 0) {
		int rc = -errno;
		log_write(LOG_ERR, "server: %s: the state directory cannot be used: %s", dir, strerror(-rc));
		return rc;
	}
	if (st.st_mode & S_IRWXO) {
		log_write(LOG_WARNING, "server: %s: the state directory is open to others; chmod o= it", dir);
	}
	return 0;
}

/* Two servers on one state directory would each undo what the other does. The lock ends with the process. */
static int lock_state_dir(const char *dir)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/startalkd.lock", dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int rc = -errno;
		log_write(LOG_ERR, "server: %s: %s", path, rc == -EWOULDBLOCK ? "another startalkd runs with this state directory" :
		                                                                   strerror(-rc));
		if (fd >= 0) {
			close(fd);
		}
		return rc;
	}
	return 0;
}

static void fini_worker(void *arg)
{
	db_thread_fini(arg);
}

static void on_written(struct db_request *list, void *arg)
{
	struct server *server = arg;
	while (list) {
		struct db_request *next = list->next;
		list->mail.kind = MAIL_WRITTEN;
		mailbox_put(&server->inbox, &list->mail);
		list = next;
	}
}

static int open_parts(struct server *server)
{
	char err[1024];
	const struct settings *settings = server->settings;
	server->throttle = throttle_new();
	server->gate = gate_new();
	server->refusals = refusals_new();
	server->db = db_new(settings->server.state_dir, on_written, server);
	if (!server->throttle || !server->gate || !server->refusals || !server->db) {
		log_write(LOG_ERR, "server: out of memory");
		return -ENOMEM;
	}
	server->workers = workers_new((unsigned)settings->server.workers, &server->inbox, MAIL_JOB_DONE, fini_worker, server->db);
	if (!server->workers) {
		log_write(LOG_ERR, "server: the worker threads cannot be started");
		return -EAGAIN;
	}
	int rc = tls_credentials_load(settings, &server->credentials, err, sizeof(err));
	if (rc < 0) {
		log_write(LOG_ERR, "%s", err);
		return rc;
	}
	server->loop = loop_new(server->ev, &server->inbox, &settings->limits, server->credentials);
	return server->loop ? 0 : -ENOMEM;
}

/* While that may still be root's privilege. Who cannot bind finds out before anything is read or written. */
static int bind_all(struct server *server)
{
	char err[512];
	size_t count = 0;
	for (const struct settings_listen *listen = server->settings->listen; listen; listen = listen->next) {
		count++;
	}
	server->bound = calloc(count, sizeof(*server->bound));
	if (!server->bound) {
		return -ENOMEM;
	}
	for (const struct settings_listen *listen = server->settings->listen; listen; listen = listen->next) {
		int fd = listen_bind(listen, err, sizeof(err));
		if (fd < 0) {
			log_write(LOG_ERR, "%s", err);
			return fd;
		}
		server->bound[server->bound_count++] = fd;
	}
	return 0;
}

static int listen_all(struct server *server)
{
	char err[512];
	size_t i = 0;
	for (const struct settings_listen *listen = server->settings->listen; listen; listen = listen->next, i++) {
		int rc = loop_listen(server->loop, listen, server->bound[i], err, sizeof(err));
		if (rc < 0) {
			log_write(LOG_ERR, "%s", err);
			return rc;
		}
		server->bound[i] = -1;
	}
	handover_drop_rest();
	return 0;
}

static void free_bound(struct server *server)
{
	for (size_t i = 0; i < server->bound_count; i++) {
		if (server->bound[i] >= 0) {
			close(server->bound[i]);
		}
	}
	free(server->bound);
}

/* STATE_DIR in the place of the one that is configured. */
static int set_state_dir(struct settings *settings, const char *state_dir)
{
	char *copy = strdup(state_dir);
	if (!copy) {
		return -ENOMEM;
	}
	free((char *)(uintptr_t)settings->server.state_dir);
	settings->server.state_dir = copy;
	return 0;
}

int server_open(struct server *server, const char *config, const char *const *log, bool dry, const char *state_dir, conf_report_fn *report,
                void *arg)
{
	*server = (struct server){ .dry = dry, .log_modules = log, .started_at = stk_now_ms() };
	pool_thread_init();
	server->conf = conf_new();
	server->config = strdup(config);
	if (!server->conf || !server->config) {
		return -ENOMEM;
	}
	int rc = settings_load(config, server->conf, &server->settings, report, arg);
	rc = rc < 0 ? rc : settings_check_logs(server->conf, log, report, arg);
	if (rc < 0) {
		return rc;
	}
	if (state_dir) {
		log_setup(LOG_WARNING, false); /* whoever asks is to see it */
		rc = set_state_dir(server->settings, state_dir);
	} else {
		log_setup(settings_log_level(server->settings), server->settings->log.target == LOG_TARGET_SYSLOG);
	}
	if (rc < 0) {
		return rc;
	}
	server->ev = ev_default_loop(EVFLAG_AUTO);
	if (!server->ev) {
		log_write(LOG_ERR, "server: no event loop");
		return -EIO;
	}
	mailbox_init(&server->inbox, server->ev);
	jobs_init(server);
	rc = dry ? 0 : bind_all(server);
	rc = rc < 0 ? rc : privilege_drop(&server->settings->server, config);
	rc = rc < 0 ? rc : make_state_dir(server->settings->server.state_dir);
	rc = rc < 0 || dry ? rc : lock_state_dir(server->settings->server.state_dir);
	rc = rc < 0 ? rc : open_parts(server);
	rc = rc < 0 ? rc : module_load_all(server, false, report, arg);
	if (rc == 0 && !server->modules.mechs) {
		report("no module offers a SASL mechanism, so nobody could log in; enable one, such as auth_sqlite, in plugins.d", arg);
		rc = -ENOENT;
	}
	return rc;
}

/* ---- run ---- */

struct runner {
	struct server *server;
	struct ev_prepare prepare;
	struct ev_signal term, interrupt, hangup, again, reopen;
	struct ev_child check; /* whether a restart would succeed; active while that is found out */
	struct ev_timer bound;
};

static void wake_threads(struct server *server)
{
	workers_wake(server->workers);
	db_wake(server->db);
}

/* Routes what is there, and does with RUN what the router's own loop is told. True: there was anything. */
static bool run_round(struct server *server, bool (*run)(struct loop *))
{
	bool any = router_run(server);
	loop_deliver(server->loop);
	return run(server->loop) || any;
}

/* Before the loop sleeps: all mail both ways, then what has to leave leaves together. Other loops' mail may never end, so that there is a
 * bound, and timers and sockets get their turn. */
static void on_prepare(struct ev_loop *ev, struct ev_prepare *prepare, int events)
{
	(void)events;
	struct runner *runner = prepare->data;
	struct server *server = runner->server;
	bool any = true;
	for (int i = 0; i < ROUNDS && any; i++) {
		any = run_round(server, loop_run);
	}
	wake_threads(server);
	if (any) {
		mailbox_stay_awake(&server->inbox);
	}
	if (server->stopping && !loop_connections(server->loop)) {
		ev_break(ev, EVBREAK_ALL);
	}
}

static void on_batch(void *arg)
{
	struct server *server = arg;
	(void)run_round(server, loop_work);
	wake_threads(server);
}

static void on_bound(struct ev_loop *ev, struct ev_timer *timer, int events)
{
	(void)timer;
	(void)events;
	ev_break(ev, EVBREAK_ALL);
}

static void begin_stop(struct ev_loop *ev, struct runner *runner)
{
	struct server *server = runner->server;
	server->stopping = true;
	if (server->restart) {
		notify_reloading();
	} else {
		notify_stopping();
	}
	server->socket_count = loop_stop_listening(server->loop, server->sockets, server->restart ? HANDOVER_MAX : 0);
	session_end_all(server, 111, "system shutdown");
	ev_timer_init(&runner->bound, on_bound, STOP_BOUND, 0);
	ev_timer_start(ev, &runner->bound);
}

static void on_stop(struct ev_loop *ev, struct ev_signal *signal, int events)
{
	(void)events;
	struct runner *runner = signal->data;
	struct server *server = runner->server;
	if (server->stopping) {
		return;
	}
	log_write(LOG_NOTICE, "server: stopping: %s", signal->signum == SIGINT ? "SIGINT" : "SIGTERM");
	begin_stop(ev, runner);
}

static void on_checked(struct ev_loop *ev, struct ev_child *child, int events)
{
	(void)events;
	struct runner *runner = child->data;
	struct server *server = runner->server;
	ev_child_stop(ev, child);
	if (server->stopping) {
		return;
	}
	if (!WIFEXITED(child->rstatus) || WEXITSTATUS(child->rstatus) != EXIT_SUCCESS) {
		log_write(LOG_ERR, "server: not restarted: --check of the program on disk has failed, see above; everything stays as it is");
		return;
	}
	log_write(LOG_NOTICE, "server: restarting in place: SIGUSR2");
	server->restart = true;
	begin_stop(ev, runner);
}

struct addresses {
	char text[4000];
	size_t len;
};

static bool add_address(const char *address, enum stk_tls tls, void *arg)
{
	struct addresses *all = arg;
	(void)tls;
	int len = snprintf(all->text + all->len, sizeof(all->text) - all->len, "%s%s", all->len ? " " : "", address);
	all->len += (size_t)len < sizeof(all->text) - all->len ? (size_t)len : 0;
	return true;
}

/* The program may be another one by now, and the configuration too: whether they agree is found out first. */
static void on_again(struct ev_loop *ev, struct ev_signal *signal, int events)
{
	(void)events;
	struct runner *runner = signal->data;
	if (runner->server->stopping || ev_is_active(&runner->check)) {
		return;
	}
	struct addresses listening = { .len = 0 };
	loop_each_listener(runner->server->loop, add_address, &listening);
	int pid = handover_check(runner->server->config, listening.text);
	if (pid < 0) {
		log_write(LOG_ERR, "server: not restarted: the program on disk cannot be executed: %s", strerror(-pid));
		return;
	}
	ev_child_init(&runner->check, on_checked, pid, 0);
	runner->check.data = runner;
	ev_child_start(ev, &runner->check);
}

static void log_reload(const char *line, void *arg)
{
	(void)arg;
	log_write(LOG_NOTICE, "reload: %s", line);
}

static void on_hangup(struct ev_loop *ev, struct ev_signal *signal, int events)
{
	(void)ev;
	(void)events;
	struct server *server = ((struct runner *)signal->data)->server;
	if (!server->stopping) {
		server_reload(server, false, log_reload, NULL);
	}
}

static void on_reopen(struct ev_loop *ev, struct ev_signal *signal, int events)
{
	(void)ev;
	(void)events;
	struct stk_event event = { .size = sizeof(event), .hook = STK_REOPEN };
	module_run_hooks(((struct runner *)signal->data)->server, &event);
}

static void watch_signal(struct ev_loop *ev, struct ev_signal *watcher, int number, struct runner *runner,
                         void (*fn)(struct ev_loop *, struct ev_signal *, int))
{
	ev_signal_init(watcher, fn, number);
	watcher->data = runner;
	ev_signal_start(ev, watcher);
	ev_unref(ev);
}

static void unwatch_signal(struct ev_loop *ev, struct ev_signal *watcher)
{
	ev_ref(ev);
	ev_signal_stop(ev, watcher);
}

/* As many descriptors as the process may have: the default of 1024 stems from programs that use select(). */
static void raise_descriptors(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
			log_write(LOG_WARNING, "server: the number of open files cannot be raised: %s", strerror(errno));
		}
	}
}

int server_run(struct server *server)
{
	raise_descriptors();
	unsigned threads = settings_io_threads(server->settings);
	int started = loop_start(server->loop, threads);
	if (started < 0) {
		log_write(LOG_ERR, "server: the I/O threads cannot be started: %s", strerror(-started));
		return started;
	}
	log_write(LOG_INFO, "server: io-threads: %u", threads);
	int rc = listen_all(server);
	if (rc < 0) {
		return rc;
	}
	struct runner runner = { .server = server };
	signal(SIGPIPE, SIG_IGN);
	watch_signal(server->ev, &runner.term, SIGTERM, &runner, on_stop);
	watch_signal(server->ev, &runner.interrupt, SIGINT, &runner, on_stop);
	watch_signal(server->ev, &runner.hangup, SIGHUP, &runner, on_hangup);
	watch_signal(server->ev, &runner.again, SIGUSR2, &runner, on_again);
	watch_signal(server->ev, &runner.reopen, SIGUSR1, &runner, on_reopen);
	ev_prepare_init(&runner.prepare, on_prepare);
	loop_on_batch(server->loop, on_batch, server);
	runner.prepare.data = &runner;
	ev_prepare_start(server->ev, &runner.prepare);
	memory_watch_start(server);
	log_write(LOG_NOTICE, "server: ready: startalkd %s, pid %d", STK_VERSION, (int)getpid());
	notify_ready(server->ev);
	ev_run(server->ev, 0);
	memory_watch_stop(server);
	ev_prepare_stop(server->ev, &runner.prepare);
	ev_timer_stop(server->ev, &runner.bound);
	ev_child_stop(server->ev, &runner.check);
	unwatch_signal(server->ev, &runner.term);
	unwatch_signal(server->ev, &runner.interrupt);
	unwatch_signal(server->ev, &runner.hangup);
	unwatch_signal(server->ev, &runner.again);
	unwatch_signal(server->ev, &runner.reopen);
	signal(SIGUSR1, SIG_IGN); /* as at the start: whoever turns logs does not know that this is about to end */
	log_write(LOG_NOTICE, "server: stopped");
	return 0;
}

/* ---- stop ---- */

/* Modules first stop acting; what they have under way ends; then each frees what is its own. */
void server_close(struct server *server)
{
	if (server->workers) {
		session_end_all(server, 111, "system shutdown");
		module_quiesce_all(server);
		do { /* what is done may ask for another write */
			server->left = !db_drain(server->db);
		} while (router_run(server));
		module_unload_all(server);
		server->left |= workers_free(&server->workers) > 0;
		router_run(server);
		db_thread_fini(server->db);
	}
	if (server->loop) {
		loop_stop(server->loop);
		router_run(server);
		loop_free(&server->loop);
	}
	if (server->left) { /* what still runs may use all the rest */
		db_close(server->db);
		log_write(LOG_ERR, "server: jobs or writes that do not end still run; the process ends without them");
		return;
	}
	if (server->ev) {
		router_run(server);
		ev_timer_stop(server->ev, &server->job_timer);
		mailbox_fini(&server->inbox);
		notify_fini();
		ev_loop_destroy(server->ev);
	}
	db_free(&server->db);
	throttle_free(&server->throttle);
	gate_free(&server->gate);
	refusals_free(&server->refusals);
	tls_credentials_unref(server->credentials);
	free_bound(server);
	settings_free(&server->settings);
	conf_free(&server->conf);
	conf_free(&server->first_conf);
	free(server->config);
	frame_thread_fini();
	pool_thread_fini();
}
