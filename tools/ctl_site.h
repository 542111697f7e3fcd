/* SPDX-License-Identifier: MIT */
#ifndef STK_TOOLS_CTL_SITE_H
#define STK_TOOLS_CTL_SITE_H

#include <stdbool.h>

#include <jansson.h>

#include "core/conf.h"
#include "core/settings.h"
#include "modules/admin/facts.h"
#include "tools/ctl.h"

/* A server, running or not, with its configuration as it is on disk. */
struct site {
	struct ctl_socket sock;
	bool running;
	char *config;    /* the configuration file */
	char *program;   /* startalkd, or NULL: not found */
	struct conf *conf;
	struct settings_server server;
	struct facts loaded; /* what the server tells of its modules; empty when none runs */
};

/* 0, or an exit status, told. */
int site_open(struct site *site, const struct ctl_place *place);
void site_close(struct site *site);
/* Reads anew what may have changed: files and what is loaded. As site_open(). */
int site_refresh(struct site *site);
/* Sends REQUEST (taken). LINES (may be NULL) gets the objects of the answer. 0, or an exit status with WHY (malloc'd). */
int site_ask(struct site *site, json_t *request, json_t *lines, char **why);
/* Runs startalkd -c CONFIG with OPTION and NAME (may be NULL), not for long. What it wrote is malloc'd; OUT and ERR may be NULL. 0, -errno, or
 * above 0 when it failed. */
int site_run(const struct site *site, const char *option, const char *name, char **out, char **err);
/* What the server tells of the loaded module NAME, or NULL. Borrowed. */
const json_t *site_loaded(const struct site *site, const char *name);
/* What the file of module NAME says, as stk_describe() tells it; NULL with WHY (malloc'd) it cannot be used. */
json_t *site_describe(const struct site *site, const char *name, char **why);

#endif
