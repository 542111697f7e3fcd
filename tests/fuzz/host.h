/* SPDX-License-Identifier: MIT */
#ifndef STK_TESTS_FUZZ_HOST_H
#define STK_TESTS_FUZZ_HOST_H

#include "core/server.h"

/* A whole server with its real modules inside of a fuzz target: one for many inputs, on a state directory of its own, and with a
 * clock that goes on only when it is told to jump. */

#define HOST_DOMAIN   "startalk.tech"
#define HOST_PASSWORD "w0nder-l4nd" /* of the accounts alice, bob and carol */

/* The server, opened when there is none, or anew when it has served ROUNDS inputs. MODULES: their sections. Call it for each input; the
 * clock of the process is the server's until host_leave(). */
struct server *host_enter(const char *modules, unsigned rounds);
void host_leave(void);
/* Runs it until it waits for something from outside, or for time. */
void host_settle(void);
/* Lets SECONDS pass. */
void host_pass(double seconds);
/* The folder with everything in it; the state directory is STATE in there. */
const char *host_folder(void);

#endif
