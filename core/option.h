/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_OPTION_H
#define STK_CORE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <startalkd/module.h>

/* A table of options and the struct they fill. STRIDE is sizeof(struct stk_option) as the table's owner was compiled. */
struct option_table {
	const struct stk_option *options; /* NULL: no option at all */
	size_t stride;
};

/* The I-th option, or NULL past the end. */
const struct stk_option *option_at(const struct option_table *table, size_t i);
const struct stk_option *option_find(const struct option_table *table, const char *key);
/* The key that KEY was probably meant to be, or NULL when nothing is near. */
const char *option_nearest(const struct option_table *table, const char *key);
/* Parses TEXT and stores it in CONF (freeing what was there). A relative path is taken from BASE_DIR. 0, -EINVAL or -ERANGE with ERR
 * a text such as "port: 70000 is out of range (1 to 65535)", -ENOMEM. */
int option_set(const struct stk_option *option, void *conf, const char *text, const char *base_dir, char *err, size_t errlen);
/* Fills CONF (zeroed by the caller) with the defaults. Required options are left zero. 0, or as option_set: a wrong table. */
int option_defaults(const struct option_table *table, void *conf, char *err, size_t errlen);
/* Parts of the reference of an option. The range is empty when there is none. */
void option_print_type(const struct stk_option *option, FILE *out);
void option_print_range(const struct stk_option *option, FILE *out);
bool option_is_required(const struct stk_option *option);
/* Frees the strings and lists in CONF and zeroes their fields. */
void option_free(const struct option_table *table, void *conf);
/* The reference of a table as text: key, type, default, range, help; for --help-module. */
void option_help(const struct option_table *table, FILE *out);
/* The same for programs: seven fields a line, parted by tabs: section, key, type, required or optional, default, range, help. The
 * first line has no key and WHAT for help. */
void option_dump(const struct option_table *table, const char *section, const char *what, FILE *out);

#endif
