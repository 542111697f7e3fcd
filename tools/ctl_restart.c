/* SPDX-License-Identifier: MIT */
/* startalkctl restart: has the configuration checked by the program on disk, asks the server to execute that, and waits
 * until it is back. */

#include "tools/ctl_restart.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "tools/ctl_module.h"

#define STOP_BOUND 30 /* seconds in which the server has to be gone, and again to be back */
#define POLLS      20 /* a second */

static int check(const struct site *site)
{
	char *err = NULL;
	int rc = site_run(site, "--check", NULL, NULL, &err);
	if (rc < 0) {
		ctl_error("the program startalkd, which is to be executed anew, is not found beside this one");
	} else if (rc > 0) {
		ctl_error("not restarted, everything stays as it is: %s", err && *err ? err : "startalkd --check fails");
	}
	free(err);
	return rc == 0 ? EXIT_SUCCESS : EXIT_REFUSED;
}

/* The old one closes its sockets when it has told its clients. */
static int await_end(struct ctl_socket *sock)
{
	const char *text;
	const struct timeval bound = { .tv_sec = STOP_BOUND };
	setsockopt(sock->fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound));
	int rc = ctl_receive(sock, &text);
	while (rc > 0) {
		rc = ctl_receive(sock, &text);
	}
	if (rc == -EAGAIN) {
		ctl_error("the server has not restarted within %d s: its log tells why", STOP_BOUND);
	}
	return rc == -EAGAIN ? EXIT_REFUSED : EXIT_SUCCESS;
}

static int await_return(const struct ctl_place *place)
{
	const struct timespec pause = { .tv_nsec = 1000000000 / POLLS };
	for (int i = 0; i < STOP_BOUND * POLLS; i++) {
		struct ctl_socket sock;
		int rc = ctl_connect(&sock, place, true);
		ctl_close(&sock);
		if (rc == 0) {
			return EXIT_SUCCESS;
		}
		nanosleep(&pause, NULL);
	}
	ctl_error("the server has stopped, but does not answer again: its log tells why");
	return EXIT_LOST;
}

int ctl_restart(const struct ctl_place *place, bool json)
{
	struct site site;
	char *why = NULL;
	int status = site_open(&site, place);
	if (status != EXIT_SUCCESS) {
		return status;
	}
	if (!site.running) {
		ctl_error("no server runs with %s", site.config);
		site_close(&site);
		return EXIT_LOST;
	}
	status = check(&site);
	if (status == EXIT_SUCCESS) {
		status = site_ask(&site, json_pack("{s:s}", "command", "restart"), NULL, &why);
		if (status != EXIT_SUCCESS) {
			ctl_error("%s", why ? why : "the server has not answered");
		}
	}
	status = status == EXIT_SUCCESS ? await_end(&site.sock) : status;
	status = status == EXIT_SUCCESS ? await_return(place) : status;
	if (status == EXIT_SUCCESS) {
		module_say(json, "the server has restarted");
	}
	free(why);
	site_close(&site);
	return status;
}
