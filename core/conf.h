/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_CONF_H
#define STK_CORE_CONF_H

#include <stdbool.h>
#include <stddef.h>

#include "core/option.h"

/* What stands in the configuration files, not yet judged: sections in the order they were read. */
struct conf_entry {
	struct conf_entry *next;
	char *key, *value;
	unsigned line;
};

struct conf_section {
	struct conf_section *next;
	char *name;  /* "listen" in [listen NAME] */
	char *label; /* "NAME" in it, or NULL */
	const char *file;
	unsigned line;
	struct conf_entry *entries; /* in the order written */
};

struct conf; /* owns sections, entries and file names */

/* Takes one fault, "FILE:LINE: reason"; called for every fault found. */
typedef void conf_report_fn(const char *fault, void *arg);

/* An empty configuration, or NULL: out of memory. */
struct conf *conf_new(void);
void conf_free(struct conf **conf);
/* Reads FILE and appends its sections. Faults are reported and reading goes on; 0, or -EINVAL when there was one, -errno when
 * FILE cannot be read (reported too), -ENOMEM. */
int conf_read_file(struct conf *conf, const char *file, conf_report_fn *report, void *arg);
/* The same for text in memory; NAME stands in for the file's name. */
int conf_read_text(struct conf *conf, const char *name, const char *text, size_t len, conf_report_fn *report, void *arg);
/* Reads every *.conf of DIR in name order (byte order; hidden files are skipped). A missing DIR is a fault. */
int conf_read_dir(struct conf *conf, const char *dir, conf_report_fn *report, void *arg);
const struct conf_section *conf_sections(const struct conf *conf); /* the first; follow next */
/* The section NAME without label (LABEL NULL) or with it, or NULL. */
const struct conf_section *conf_find(const struct conf *conf, const char *name, const char *label);
/* Sets SECTION's entries in CONF_STRUCT over the table's defaults (SECTION NULL: defaults only). Unknown keys, with the nearest name, keys given
 * twice, wrong values and missing required ones are reported with file and line. 0, -EINVAL, -ENOMEM. */
int conf_apply(const struct conf_section *section, const struct option_table *table, void *conf_struct,
               conf_report_fn *report, void *arg);

#endif
