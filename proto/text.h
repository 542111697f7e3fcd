/* SPDX-License-Identifier: MIT */
#ifndef STK_PROTO_TEXT_H
#define STK_PROTO_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMBER_ROOM 21 /* the longest number as text, and its NUL */

/* Are the N bytes TEXT well-formed UTF-8? */
bool text_is_utf8(const void *text, size_t n);

/* TEXT as a decimal number from MIN to MAX, nothing before or behind it. False: it is none (or NULL). */
bool number_parse(const char *text, int64_t min, int64_t max, int64_t *number);

/* NUMBER as decimal text into OUT, which has NUMBER_ROOM bytes; returns its length. */
size_t number_print(int64_t number, char *out);

#endif
