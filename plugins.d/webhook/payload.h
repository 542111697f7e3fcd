/* SPDX-License-Identifier: MIT */
#ifndef WEBHOOK_PAYLOAD_H
#define WEBHOOK_PAYLOAD_H

#include <stddef.h>

#include <startalkd/module.h>

#define PAYLOAD_SECRET_MAX 1024

/* A message as a JSON object on one line, malloc'd. NULL: out of memory. */
char *payload_event(const struct stk_stanza *message);
/* The header "X-Startalk-Signature: sha256=HEX", HMAC-SHA256 of BODY. OUT has room for 128 bytes. */
void payload_sign(const char *secret, const char *body, size_t len, char *out, size_t size);
/* The first line of the file into OUT, which has room for PAYLOAD_SECRET_MAX bytes; "" when PATH is NULL. 0, or -errno
 * with ERR. */
int payload_read_secret(const char *path, char *out, char *err, size_t errlen);

#endif
