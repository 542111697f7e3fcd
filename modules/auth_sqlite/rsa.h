/* SPDX-License-Identifier: MIT */
#ifndef AUTH_SQLITE_RSA_H
#define AUTH_SQLITE_RSA_H

#include <gnutls/abstract.h>

#include <startalkd/module.h>

/* Loads the private key in FILE, or when it is NULL login-rsa.key of the state directory, which is made with its public half
 * when it is not there. NULL: logged. */
gnutls_privkey_t rsa_open(struct stk_module *module, const char *file);

#endif
