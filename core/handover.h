/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_HANDOVER_H
#define STK_CORE_HANDOVER_H

#include <stddef.h>
#include <sys/socket.h>

/* Listening sockets that a process gets from the one before: from a service manager (sd_listen_fds(3)), or from itself before it has
 * executed its program anew, so that nobody who connects meanwhile is refused. */

#define HANDOVER_MAX 64 /* sockets */

/* Takes what the environment says, and takes it out of there; remembers where the program is. Before there are threads. */
void handover_init(void);
/* An inherited socket that listens at ADDRESS (port 0: any port) and that nobody has taken yet, ready for use, with its real address stored
 * in ADDRESS; or -ENOENT. */
int handover_take(struct sockaddr_storage *address);
/* Closes what nobody has taken, and says so. */
void handover_drop_rest(void);
/* Is CONFIG right, for the program as it is on disk now? LISTENING: the addresses that the server listens on. Starts
 * a process that finds out: its pid, or -errno. */
int handover_check(const char *config, const char *listening);
/* In that process: the addresses that the server listens on, parted by spaces; NULL: it is no check before a restart. */
const char *handover_listening(void);
/* Executes the program anew, with the arguments of this one and the FDS; all other descriptors are closed. Returns -errno only. */
int handover_exec(const int *fds, size_t n);

#endif
