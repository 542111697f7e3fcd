/* SPDX-License-Identifier: MIT */
/* The key pair under which clients encrypt their passwords: made at first start, read afterwards. */

#include "rsa.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#define NEW_BITS   2048
#define LEAST_BITS 1024 /* what clients of existing deployments have */

static int write_file(const char *path, const gnutls_datum_t *pem, mode_t mode)
{
	char temp[4200];
	snprintf(temp, sizeof(temp), "%s.new", path);
	int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0) {
		return -errno;
	}
	int rc = fchmod(fd, mode) < 0 ? -errno : 0;
	if (rc == 0 && write(fd, pem->data, pem->size) != (ssize_t)pem->size) {
		rc = errno ? -errno : -EIO;
	}
	if (rc == 0 && fsync(fd) < 0) {
		rc = -errno;
	}
	close(fd);
	if (rc == 0 && rename(temp, path) < 0) {
		rc = -errno;
	}
	if (rc < 0) {
		unlink(temp);
	}
	return rc;
}

/* The public half first: with the private one in place nothing would be made again. */
static int save_pair(struct stk_module *module, gnutls_x509_privkey_t key, gnutls_pubkey_t public, const char *key_path)
{
	char pub_path[4200];
	gnutls_datum_t key_pem = { 0 }, pub_pem = { 0 };
	snprintf(pub_path, sizeof(pub_path), "%s/login-rsa.pub", stk_state_dir(module));
	int rc = gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &key_pem);
	rc = rc < 0 ? rc : gnutls_pubkey_export2(public, GNUTLS_X509_FMT_PEM, &pub_pem);
	if (rc < 0) {
		stk_log(module, LOG_ERR, "%s: %s", key_path, gnutls_strerror(rc));
	} else if ((rc = write_file(pub_path, &pub_pem, 0644)) < 0 || (rc = write_file(key_path, &key_pem, 0600)) < 0) {
		stk_log(module, LOG_ERR, "%s: cannot be written: %s", key_path, strerror(-rc));
	} else {
		stk_log(module, LOG_NOTICE, "%s: RSA key pair made (%d bits); clients encrypt passwords with %s", key_path, NEW_BITS, pub_path);
	}
	if (key_pem.data) {
		gnutls_memset(key_pem.data, 0, key_pem.size);
	}
	gnutls_free(key_pem.data);
	gnutls_free(pub_pem.data);
	return rc;
}

static int make_pair(struct stk_module *module, const char *key_path)
{
	gnutls_x509_privkey_t key = NULL;
	gnutls_privkey_t abstract = NULL;
	gnutls_pubkey_t public = NULL;
	int rc = gnutls_x509_privkey_init(&key);
	rc = rc < 0 ? rc : gnutls_x509_privkey_generate(key, GNUTLS_PK_RSA, NEW_BITS, 0);
	rc = rc < 0 ? rc : gnutls_privkey_init(&abstract);
	rc = rc < 0 ? rc : gnutls_privkey_import_x509(abstract, key, GNUTLS_PRIVKEY_IMPORT_COPY);
	rc = rc < 0 ? rc : gnutls_pubkey_init(&public);
	rc = rc < 0 ? rc : gnutls_pubkey_import_privkey(public, abstract, 0, 0);
	if (rc < 0) {
		stk_log(module, LOG_ERR, "%s: cannot be made: %s", key_path, gnutls_strerror(rc));
	} else {
		rc = save_pair(module, key, public, key_path);
	}
	if (public) {
		gnutls_pubkey_deinit(public);
	}
	if (abstract) {
		gnutls_privkey_deinit(abstract);
	}
	if (key) {
		gnutls_x509_privkey_deinit(key);
	}
	return rc;
}

static gnutls_privkey_t import(struct stk_module *module, const char *path)
{
	gnutls_privkey_t key = NULL;
	gnutls_datum_t pem = { 0 };
	unsigned bits = 0;
	struct stat st;
	if (stat(path, &st) == 0 && (st.st_mode & S_IRWXO)) {
		stk_log(module, LOG_WARNING, "%s: the key is open to everybody on this machine; chmod o= it", path);
	}
	int rc = gnutls_load_file(path, &pem);
	rc = rc < 0 ? rc : gnutls_privkey_init(&key);
	rc = rc < 0 ? rc : gnutls_privkey_import_x509_raw(key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (pem.data) {
		gnutls_memset(pem.data, 0, pem.size);
		gnutls_free(pem.data);
	}
	if (rc < 0) {
		stk_log(module, LOG_ERR, "%s: no private key in PEM: %s", path, gnutls_strerror(rc));
	} else if (gnutls_privkey_get_pk_algorithm(key, &bits) != GNUTLS_PK_RSA || bits < LEAST_BITS) {
		stk_log(module, LOG_ERR, "%s: an RSA key of %d bits or more is wanted", path, LEAST_BITS);
		rc = -1;
	}
	if (rc < 0 && key) {
		gnutls_privkey_deinit(key);
		key = NULL;
	}
	return key;
}

gnutls_privkey_t rsa_open(struct stk_module *module, const char *file)
{
	char path[4096];
	if (file) {
		return import(module, file);
	}
	snprintf(path, sizeof(path), "%s/login-rsa.key", stk_state_dir(module));
	if (access(path, F_OK) < 0 && make_pair(module, path) < 0) {
		return NULL;
	}
	return import(module, path);
}
