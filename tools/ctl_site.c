/* SPDX-License-Identifier: MIT */
/* What startalkctl finds out of a server before it changes its modules: the configuration that it reads, what it has loaded, and what the
 * program startalkd says of the rest. Changes nothing. */

#include "tools/ctl_site.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN_BOUND 30 /* seconds that startalkd may take to say something of a module */

static void overlook(const char *fault, void *arg)
{
	(void)fault;
	(void)arg;
}

/* ---- the server ---- */

static char *copy_error(const json_t *object, const char *otherwise)
{
	const char *text = json_string_value(json_object_get(object, "error"));
	return strdup(text ? text : otherwise);
}

int site_ask(struct site *site, json_t *request, json_t *lines, char **why)
{
	const char *line;
	int status = -1;
	char *text = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	*why = NULL;
	if (!text) {
		*why = strdup("out of memory");
		return EXIT_REFUSED;
	}
	size_t len = strlen(text);
	text[len] = '\n'; /* where the NUL was */
	ctl_send(&site->sock, text, len + 1);
	explicit_bzero(text, len); /* there may be passwords in it */
	free(text);
	while (status < 0 && ctl_receive(&site->sock, &line) > 0) {
		json_t *object = json_loads(line, 0, NULL);
		const json_t *ok = json_object_get(object, "ok");
		if (ok) {
			status = json_is_true(ok) ? 0 : EXIT_REFUSED;
			*why = status ? copy_error(object, "the server says no") : NULL;
		} else if (lines && object) {
			json_array_append(lines, object);
		}
		json_decref(object);
	}
	if (status < 0) {
		*why = strdup("the server is gone before it has answered");
	}
	return status < 0 ? EXIT_LOST : status;
}

/* The first line of the answer tells of the server, each other of a module. */
static int read_loaded(struct site *site)
{
	char *why = NULL;
	size_t i;
	json_t *line, *lines = json_array();
	int status = site_ask(site, json_pack("{s:s,s:s}", "command", "module", "do", "list"), lines, &why);
	facts_fini(&site->loaded);
	if (facts_init(&site->loaded) < 0) {
		status = EXIT_REFUSED;
	}
	json_array_foreach (lines, i, line) {
		if (json_object_get(line, "name")) {
			json_array_append(site->loaded.modules, line);
		} else {
			json_object_update(site->loaded.head, line);
		}
	}
	json_decref(lines);
	if (status) {
		ctl_error("%s", why ? why : "out of memory");
	}
	free(why);
	return status;
}

const json_t *site_loaded(const struct site *site, const char *name)
{
	size_t i;
	json_t *object;
	json_array_foreach (site->loaded.modules, i, object) {
		const char *other = json_string_value(json_object_get(object, "name"));
		if (other && strcmp(other, name) == 0) {
			return object;
		}
	}
	return NULL;
}

/* ---- the program ---- */

static char *find_program(void)
{
	static const char *const beside[] = { "startalkd", "../sbin/startalkd" };
	char self[PATH_MAX], path[PATH_MAX + 32];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[len > 0 ? len : 0] = '\0';
	char *slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < sizeof(beside) / sizeof(*beside); i++) {
		*slash = '\0';
		snprintf(path, sizeof(path), "%s/%s", self, beside[i]);
		if (access(path, X_OK) == 0) {
			return strdup(path);
		}
	}
	return access(STK_SBIN_DIR "/startalkd", X_OK) == 0 ? strdup(STK_SBIN_DIR "/startalkd") : NULL;
}

static char *read_back(int fd)
{
	struct stat st;
	char *text = fstat(fd, &st) == 0 ? calloc(1, (size_t)st.st_size + 1) : NULL;
	if (text && pread(fd, text, (size_t)st.st_size, 0) != st.st_size) {
		free(text);
		text = NULL;
	}
	return text;
}

static int wait_for(pid_t pid)
{
	int status;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR) {
			return -errno;
		}
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int site_run(const struct site *site, const char *option, const char *name, char **out, char **err)
{
	char *const argv[] = { site->program, (char *)(uintptr_t)"-c", site->config, (char *)(uintptr_t)option,
			       (char *)(uintptr_t)name, NULL };
	int files[2] = { memfd_create("out", MFD_CLOEXEC), memfd_create("err", MFD_CLOEXEC) };
	int rc = !site->program ? -ENOENT : files[0] < 0 || files[1] < 0 ? -errno : 0;
	pid_t pid = rc == 0 ? fork() : -1;
	if (pid == 0) {
		alarm(RUN_BOUND);
		dup2(files[0], STDOUT_FILENO);
		dup2(files[1], STDERR_FILENO);
		execv(site->program, argv);
		_exit(127);
	}
	rc = rc < 0 ? rc : pid < 0 ? -errno : wait_for(pid);
	if (out) {
		*out = read_back(files[0]);
	}
	if (err) {
		*err = read_back(files[1]);
	}
	close(files[0]);
	close(files[1]);
	return rc;
}

/* The last line of TEXT without the program's name, malloc'd. */
static char *last_line(char *text)
{
	static const char prefix[] = "startalkd: ";
	size_t len = text ? strlen(text) : 0;
	if (len && text[len - 1] == '\n') {
		text[len - 1] = '\0';
	}
	char *line = text ? strrchr(text, '\n') : NULL;
	line = line ? line + 1 : text;
	bool own = line && strncmp(line, prefix, sizeof(prefix) - 1) == 0;
	return strdup(!line || !*line ? "startalkd says nothing of why" : own ? line + sizeof(prefix) - 1 : line);
}

json_t *site_describe(const struct site *site, const char *name, char **why)
{
	char *out = NULL, *err = NULL, *rest = NULL;
	struct facts facts;
	json_t *object = NULL;
	*why = NULL;
	if (!site->program) {
		*why = strdup("the program startalkd, which would say, is not found beside this one");
		return NULL;
	}
	int rc = site_run(site, "--describe-module", name, &out, &err);
	if (rc == 0 && out && facts_init(&facts) == 0) {
		for (char *line = strtok_r(out, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
			char *tab = strchr(line, '\t');
			if (tab) {
				*tab = '\0';
				facts_add(line, tab + 1, &facts);
			}
		}
		object = json_incref(json_array_get(facts.modules, 0));
		facts_fini(&facts);
	}
	if (!object) {
		*why = last_line(err);
	}
	free(out);
	free(err);
	return object;
}

/* ---- all of it ---- */

static int read_files(struct site *site)
{
	struct option_table table = settings_table("server");
	option_free(&table, &site->server);
	conf_free(&site->conf);
	site->conf = conf_new();
	if (!site->conf || access(site->config, R_OK) < 0) {
		ctl_error("%s: %s", site->config, site->conf ? strerror(errno) : "out of memory");
		return EXIT_REFUSED;
	}
	(void)conf_read_file(site->conf, site->config, overlook, NULL);
	(void)conf_apply(conf_find(site->conf, "server", NULL), &table, &site->server, overlook, NULL);
	if (site->server.plugins_dir) {
		(void)conf_read_dir(site->conf, site->server.plugins_dir, overlook, NULL);
	}
	return 0;
}

int site_refresh(struct site *site)
{
	int status = site->running ? read_loaded(site) : 0;
	return status ? status : read_files(site);
}

/* Is it certain that no server has this socket? One that may not be asked must not be taken for one that does not run. */
static bool is_nobody(int rc, const struct ctl_place *place)
{
	return (rc == -ENOENT || rc == -ECONNREFUSED) && !place->socket && !place->state_dir;
}

int site_open(struct site *site, const struct ctl_place *place)
{
	*site = (struct site){ .sock.fd = -1 };
	int rc = ctl_connect(&site->sock, place, true);
	site->running = rc == 0;
	if (rc < 0 && !is_nobody(rc, place)) {
		ctl_close(&site->sock);
		(void)ctl_connect(&site->sock, place, false); /* tells why */
		return EXIT_LOST;
	}
	int status = site->running ? read_loaded(site) : facts_init(&site->loaded) < 0 ? EXIT_REFUSED : 0;
	const char *config = json_string_value(json_object_get(site->loaded.head, "config"));
	config = config ? config : place->config;
	site->config = strdup(config ? config : STK_SYSCONF_DIR "/startalkd/startalkd.conf");
	site->program = find_program();
	if (status == 0 && !site->config) {
		ctl_error("out of memory");
		return EXIT_REFUSED;
	}
	return status ? status : read_files(site);
}

void site_close(struct site *site)
{
	struct option_table table = settings_table("server");
	option_free(&table, &site->server);
	conf_free(&site->conf);
	facts_fini(&site->loaded);
	ctl_close(&site->sock);
	free(site->config);
	free(site->program);
}
