/* SPDX-License-Identifier: MIT */
/* The log: one line per event, to standard error or syslog. Owns the form of a line; what is said, and at which level,
 * is its callers' business. */

#include "core/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

static atomic_int log_level = LOG_INFO;
static atomic_bool log_syslog;

static _Thread_local struct {
	void (*fn)(const char *text, void *arg);
	void *arg;
} tap;

void log_tap(void (*fn)(const char *text, void *arg), void *arg)
{
	tap.fn = fn;
	tap.arg = arg;
}

bool log_enabled(int level)
{
	return level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

void log_setup(int level, bool to_syslog)
{
	atomic_store(&log_level, level);
	if (to_syslog && !atomic_load(&log_syslog)) {
		openlog("startalkd", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	}
	atomic_store(&log_syslog, to_syslog);
}

/* A line is one line whatever stands in it: control characters are written as \xNN. */
static size_t put_escaped(char *out, size_t size, const char *text)
{
	size_t len = 0;
	for (const unsigned char *at = (const unsigned char *)text; *at && len + 5 < size; at++) {
		if (*at < 0x20 || *at == 0x7f) {
			len += (size_t)snprintf(out + len, size - len, "\\x%02x", *at);
		} else {
			out[len++] = (char)*at;
		}
	}
	out[len] = '\0';
	return len;
}

/* Under the journal the level goes in front and the time is the journal's. */
static size_t put_prefix(char *out, size_t size, int level)
{
	static const char *const names[] = { "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug" };
	if (getenv("JOURNAL_STREAM")) {
		return (size_t)snprintf(out, size, "<%d>", level);
	}
	struct timespec now;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t len = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &tm);
	return len + (size_t)snprintf(out + len, size - len, ".%03dZ %s ", (int)(now.tv_nsec / 1000000), names[level & 7]);
}

void log_write(int level, const char *fmt, ...)
{
	if (!log_enabled(level)) {
		return;
	}
	char text[LINE_MAX_BYTES / 2];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_put(level, text);
}

void log_put(int level, const char *text)
{
	char line[LINE_MAX_BYTES];
	if (tap.fn && level <= LOG_ERR) {
		tap.fn(text, tap.arg);
	}
	if (atomic_load_explicit(&log_syslog, memory_order_relaxed)) {
		put_escaped(line, sizeof(line), text);
		syslog(level, "%s", line);
		return;
	}
	size_t len = put_prefix(line, sizeof(line), level);
	len += put_escaped(line + len, sizeof(line) - len - 1, text);
	line[len++] = '\n';
	ssize_t written = write(STDERR_FILENO, line, len);
	(void)written; /* there is nowhere to say that the log cannot be written */
}
