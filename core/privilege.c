/* SPDX-License-Identifier: MIT */
/* Who the process is and what it may do, from the start of its work to its end. Owns becoming another user, and core dumps; what
 * systemd or a container takes away beside that is theirs. */

#include "core/privilege.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"

static int fail(const char *what, const char *name, int rc)
{
	log_write(LOG_ERR, "server: %s: %s: %s", what, name, strerror(-rc));
	return rc;
}

/* Only a new directory: the files in another one may be anybody's. */
static int make_state_dir(const char *dir, uid_t uid, gid_t gid)
{
	if (mkdir(dir, 0700) < 0) {
		return errno == EEXIST ? 0 : fail("state-dir", dir, -errno);
	}
	return chown(dir, uid, gid) < 0 ? fail("state-dir", dir, -errno) : 0;
}

/* Nothing of root may be left, neither to be used nor to be taken back. */
static bool is_only(uid_t uid, gid_t gid)
{
	uid_t real, effective, saved;
	gid_t real_group, effective_group, saved_group;
	if (getresuid(&real, &effective, &saved) < 0 || getresgid(&real_group, &effective_group, &saved_group) < 0) {
		return false;
	}
	return real == uid && effective == uid && saved == uid && real_group == gid && effective_group == gid && saved_group == gid &&
	       setuid(0) < 0 && seteuid(0) < 0 && (gid == 0 || (setgid(0) < 0 && setegid(0) < 0));
}

static int become(const struct settings_server *settings)
{
	const struct passwd *user = getpwnam(settings->user);
	if (!user) {
		return fail("user: there is no such user", settings->user, -ENOENT);
	}
	uid_t uid = user->pw_uid;
	gid_t gid = user->pw_gid;
	if (settings->group) {
		const struct group *group = getgrnam(settings->group);
		if (!group) {
			return fail("group: there is no such group", settings->group, -ENOENT);
		}
		gid = group->gr_gid;
	}
	if (geteuid() != 0 || uid == 0) {
		return geteuid() == uid ? 0 : fail("user: only root and the user itself can start the server as", settings->user, -EPERM);
	}
	int rc = make_state_dir(settings->state_dir, uid, gid);
	if (rc < 0) {
		return rc;
	}
	if (initgroups(settings->user, gid) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0) {
		return fail("user: cannot become", settings->user, -errno);
	}
	if (!is_only(uid, gid)) {
		return fail("user: could become root again", settings->user, -EPERM);
	}
	log_write(LOG_INFO, "server: runs as user %s, uid %u, gid %u", settings->user, (unsigned)uid, (unsigned)gid);
	return 0;
}

/* A dump would hold passwords and keys. Becoming another user has put the kernel's default in place, so this comes last. */
static void set_core_dumps(bool on)
{
	struct rlimit limit;
	prctl(PR_SET_DUMPABLE, on ? 1 : 0, 0, 0, 0);
	if (on && getrlimit(RLIMIT_CORE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_CORE, &limit);
	}
	if (on) {
		log_write(LOG_WARNING, "server: core-dumps is on: a dump holds passwords and keys");
	}
}

/* As root it has been read; what counts is the next time. */
static void check_reload(const struct settings_server *settings, const char *config)
{
	const char *paths[] = { config, settings->plugins_dir };
	for (size_t i = 0; i < 2; i++) {
		if (paths[i] && access(paths[i], R_OK) < 0) {
			log_write(LOG_WARNING, "server: %s: user %s cannot read it, so that a reload would fail", paths[i], settings->user);
		}
	}
}

int privilege_drop(const struct settings_server *settings, const char *config)
{
	int rc = settings->user ? become(settings) : 0;
	if (rc < 0) {
		return rc;
	}
	if (settings->user) {
		check_reload(settings, config);
	}
	if (!settings->user && geteuid() == 0) {
		log_write(LOG_WARNING, "server: runs as root; name a user in [server], or start it as one (user = root: no warning)");
	}
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	set_core_dumps(settings->core_dumps);
	return 0;
}
