/* SPDX-License-Identifier: MIT */
/* Crashes: says which module a thread was in when it died. Owns what each thread remembers of where it is, and the handler, which only
 * writes one line and lets the signal do what it would have done. */

#include "core/crash.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define STK_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STK_SANITIZED 1
#endif

#define DEPTH_MAX   16           /* calls deeper than this are counted only */
#define STACK_BYTES (32 * 1024)

struct place {
	const char *name, *what;
};

static _Thread_local struct place places[DEPTH_MAX];
static _Thread_local unsigned depth;

void crash_enter(const char *name, const char *what)
{
	if (depth < DEPTH_MAX) {
		places[depth] = (struct place){ .name = name, .what = what };
	}
	atomic_signal_fence(memory_order_seq_cst);
	depth++;
}

void crash_leave(void)
{
	depth--;
}

#ifndef STK_SANITIZED

static bool installed;

static const struct {
	int number;
	const char *name;
} signals[] = {
	{ SIGSEGV, "SIGSEGV" }, { SIGBUS, "SIGBUS" }, { SIGFPE, "SIGFPE" }, { SIGILL, "SIGILL" }, { SIGABRT, "SIGABRT" },
};

struct line {
	char text[256];
	size_t len;
};

static void put(struct line *line, const char *text)
{
	while (*text && line->len < sizeof(line->text) - 1) {
		line->text[line->len++] = *text++;
	}
}

/* The action is the default one again by now. */
static void on_crash(int number)
{
	struct line line = { .len = 0 };
	const char *name = "a signal";
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		name = signals[i].number == number ? signals[i].name : name;
	}
	put(&line, "startalkd: crashed (");
	put(&line, name);
	put(&line, ") ");
	if (depth) {
		const struct place *place = &places[(depth < DEPTH_MAX ? depth : DEPTH_MAX) - 1];
		put(&line, "while module ");
		put(&line, place->name);
		put(&line, " was in ");
		put(&line, place->what);
	} else {
		put(&line, "outside of modules");
	}
	line.text[line.len++] = '\n';
	ssize_t written = write(STDERR_FILENO, line.text, line.len);
	(void)written;
	raise(number);
}

void crash_thread(void)
{
	static _Thread_local unsigned char stack[STACK_BYTES];
	const stack_t own = { .ss_sp = stack, .ss_size = sizeof(stack) };
	stack_t before;
	sigset_t set;
	if (!installed) {
		return;
	}
	if (sigaltstack(NULL, &before) == 0 && before.ss_flags & SS_DISABLE) {
		sigaltstack(&own, NULL);
	}
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		sigaddset(&set, signals[i].number);
	}
	pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* a fault in a thread that blocks its signal ends the process without a word */
}

void crash_install(void)
{
	struct sigaction before, action = { .sa_handler = on_crash, .sa_flags = SA_ONSTACK | SA_RESETHAND | SA_NODEFER };
	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		if (sigaction(signals[i].number, NULL, &before) < 0 || before.sa_handler != SIG_DFL) {
			return; /* the runtime of a sanitizer may have been loaded for the sake of a module */
		}
	}
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		sigaction(signals[i].number, &action, NULL);
	}
	installed = true;
	crash_thread();
}

#else

void crash_thread(void)
{
}

void crash_install(void)
{
}

#endif
