/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_CRASH_H
#define STK_CORE_CRASH_H

/* Has a crash told on standard error which module this thread was in. Does nothing under a sanitizer, or when somebody handles the
 * signals already. Once, before threads are made. */
void crash_install(void);
/* Has this thread's crashes told, too, also when its stack has run over. In every thread that runs module code. */
void crash_thread(void);
/* This thread goes into module NAME, in WHAT ("load", "handler"), and comes out. Both are borrowed until then; calls nest. */
void crash_enter(const char *name, const char *what);
void crash_leave(void);

#endif
