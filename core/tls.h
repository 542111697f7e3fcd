/* SPDX-License-Identifier: MIT */
#ifndef STK_CORE_TLS_H
#define STK_CORE_TLS_H

#include <stddef.h>

#include <gnutls/gnutls.h>

#include "core/settings.h"

/* The server's certificate, priorities and ticket key. Counted references, since every TLS session points into it. */
struct tls_credentials;

/* Reads what SETTINGS names; without a [tls] certificate a self-signed pair in the state directory, made when it is not there yet.
 * 0; -errno with ERR a text that names the file and the fault. */
int tls_credentials_load(const struct settings *settings, struct tls_credentials **out, char *err, size_t errlen);
struct tls_credentials *tls_credentials_ref(struct tls_credentials *credentials); /* NULL is accepted */
void tls_credentials_unref(struct tls_credentials *credentials);                  /* too */
/* A server session over functions that the caller sets. It holds no reference: the caller does, as long as the session lives. */
int tls_session_new(struct tls_credentials *credentials, gnutls_session_t *session);

#endif
