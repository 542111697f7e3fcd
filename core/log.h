/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_LOG_H
#define STK_CORE_LOG_H

#include <stdbool.h>
#include <syslog.h>

/* One line to the log: "what: object: reason". Line breaks and control characters in it are written escaped. Thread-safe. Levels: LOG_ERR the
 * operator must act, LOG_WARNING may, LOG_NOTICE a change of state, LOG_INFO sessions, LOG_DEBUG stanza headers. */
/* Hands the text of each error that this thread logs to FN, too; NULL: no more. */
void log_tap(void (*fn)(const char *text, void *arg), void *arg);
void log_write(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool log_enabled(int level);
/* TEXT as a line of LEVEL, whatever level is set. */
void log_put(int level, const char *text);
/* Lines above LEVEL are dropped. TO_SYSLOG: to syslog(3), else to standard error with a timestamp. */
void log_setup(int level, bool to_syslog);

#endif
