/* SPDX-License-Identifier: MIT */
/* The server inside of a fuzz target: its folder, configuration and certificate, the accounts, the loop and the clock. What
 * is said to it, and what must come of that, is the target's business. */

#undef NDEBUG
#include "tests/fuzz/host.h"

#include <assert.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <gnutls/x509.h>
#include <sqlite3.h>

#include "core/db.h"
#include "core/log.h"
#include "core/router.h"

static struct {
	struct server server;
	bool open;
	unsigned rounds; /* inputs that it has served */
	char folder[64];
	atomic_llong jumped; /* ns that its clock is ahead of the real one */
	atomic_bool inside;
} host;

/* ---- time ---- */

/* In the place of the C library's, also for libev. Outside of an input the fuzzer reads it, which counts real seconds. */
__attribute__((no_sanitize("thread"))) int clock_gettime(clockid_t id, struct timespec *now)
{
	int rc = (int)syscall(SYS_clock_gettime, id, now);
	if (rc == 0 && host.inside && (id == CLOCK_MONOTONIC || id == CLOCK_REALTIME)) {
		long long ns = now->tv_nsec + atomic_load_explicit(&host.jumped, memory_order_relaxed);
		now->tv_sec += (time_t)(ns / 1000000000);
		now->tv_nsec = (long)(ns % 1000000000);
	}
	return rc;
}

/* ---- running ---- */

static bool is_under_way(void)
{
	for (struct stk_module *module = host.server.modules.modules; module; module = module->next) {
		if (atomic_load(&module->under_way)) {
			return true;
		}
	}
	return false;
}

/* As the server itself does before its loop sleeps. */
static bool run_mail(void)
{
	bool any = router_run(&host.server);
	workers_wake(host.server.workers);
	db_wake(host.server.db);
	loop_deliver(host.server.loop);
	return loop_run(host.server.loop) || any;
}

void host_settle(void)
{
	for (int quiet = 0; quiet < 2;) {
		bool any = run_mail(), wait = !any && is_under_way();
		ev_run(host.server.ev, wait ? EVRUN_ONCE : EVRUN_NOWAIT);
		quiet = any || wait ? 0 : quiet + 1;
	}
}

void host_pass(double seconds)
{
	atomic_fetch_add(&host.jumped, (long long)(seconds * 1e9));
	ev_now_update(host.server.ev);
	host_settle();
}

/* ---- what it finds on disk ---- */

const char *host_folder(void)
{
	return host.folder;
}

static void write_file(const char *name, const void *data, size_t size)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", host.folder, name);
	FILE *file = fopen(path, "w");
	assert(file && fwrite(data, 1, size, file) == size);
	fclose(file);
}

static void write_pem(const char *name, const gnutls_datum_t *pem)
{
	write_file(name, pem->data, pem->size);
	gnutls_free(pem->data);
}

static void make_certificate(void)
{
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t crt;
	gnutls_datum_t pem;
	time_t now = time(NULL);
	int rc = gnutls_x509_privkey_init(&key) | gnutls_x509_crt_init(&crt);
	rc |= gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	rc |= gnutls_x509_crt_set_version(crt, 3) | gnutls_x509_crt_set_serial(crt, "\1", 1) | gnutls_x509_crt_set_key(crt, key);
	rc |= gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, HOST_DOMAIN, sizeof(HOST_DOMAIN) - 1);
	gnutls_x509_crt_set_activation_time(crt, now - 86400);
	gnutls_x509_crt_set_expiration_time(crt, now + 3000 * 86400);
	rc |= gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0) | gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem);
	assert(rc == 0);
	write_pem("cert.pem", &pem);
	rc = gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem);
	assert(rc == 0);
	write_pem("key.pem", &pem);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	return remove(path);
}

static void remove_state(void)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/state", host.folder);
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The server's lock is for as long as its process lives, but here another one follows it. */
static void drop_lock(void)
{
	for (int fd = 3; fd < 64; fd++) {
		char link[32], path[128];
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		ssize_t len = readlink(link, path, sizeof(path) - 1);
		path[len > 0 ? len : 0] = '\0';
		if (strncmp(path, host.folder, strlen(host.folder)) == 0 && strstr(path, "/startalkd.lock")) {
			close(fd);
		}
	}
}

/* ---- life ---- */

static void report(const char *fault, void *arg)
{
	(void)arg;
	fprintf(stderr, "host: %s\n", fault);
}

static void close_server(void)
{
	server_close(&host.server);
	assert(!host.server.left);
	drop_lock();
	host.open = false;
}

static void end(void)
{
	host.inside = true;
	if (host.open) {
		close_server();
	}
	host.inside = false;
	nftw(host.folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* In memory where that can be had: every write is committed. */
static void make_folder(void)
{
	snprintf(host.folder, sizeof(host.folder), "/dev/shm/startalkd-fuzz.XXXXXX");
	if (!mkdtemp(host.folder)) {
		snprintf(host.folder, sizeof(host.folder), "/tmp/startalkd-fuzz.XXXXXX");
		assert(mkdtemp(host.folder));
	}
	make_certificate();
	atexit(end);
}

/* As an operator does it; the server makes verifiers of the passwords. */
static void add_users(void)
{
	static const char sql[] = "INSERT INTO users (username, password) VALUES ('alice', '" HOST_PASSWORD "'), ('bob', '" HOST_PASSWORD
				  "'), ('carol', '" HOST_PASSWORD "')";
	char path[128];
	sqlite3 *db;
	snprintf(path, sizeof(path), "%s/state/startalk.db", host.folder);
	int rc = sqlite3_open(path, &db);
	assert(rc == SQLITE_OK);
	rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
	assert(rc == SQLITE_OK);
	sqlite3_close(db);
	host_pass(2);
	host_pass(2);
}

static void open_server(const char *modules)
{
	char text[4096], path[128];
	const char *folder = getenv("STK_FUZZ_MODULES");
	if (!*host.folder) {
		make_folder();
	}
	remove_state();
	int len = snprintf(text, sizeof(text),
			   "[server]\ndomains = " HOST_DOMAIN "\nstate-dir = state\nmodules-dir = %s\nworkers = 1\n[log]\nlevel = err\n"
			   "[listen]\naddress = 127.0.0.1\nport = 0\ntls = optional\n[tls]\ncertificate = cert.pem\nkey = key.pem\n"
			   "[login]\nuser-tries = 0\naddress-tries = 0\n%s", folder ? folder : STK_FUZZ_MODULES, modules);
	assert(len > 0 && (size_t)len < sizeof(text));
	write_file("startalkd.conf", text, (size_t)len);
	snprintf(path, sizeof(path), "%s/startalkd.conf", host.folder);
	int rc = server_open(&host.server, path, NULL, false, NULL, report, NULL);
	assert(rc == 0);
	host.open = true;
	host.rounds = 0;
	host_settle();
	add_users();
}

struct server *host_enter(const char *modules, unsigned rounds)
{
	host.inside = true;
	if (host.open && host.rounds >= rounds) {
		close_server();
	}
	if (!host.open) {
		open_server(modules);
	}
	host.rounds++;
	ev_now_update(host.server.ev);
	return &host.server;
}

void host_leave(void)
{
	host.inside = false;
}
