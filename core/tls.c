/* SPDX-License-Identifier: MIT */
/* Certificates and TLS sessions. Owns what is read from or made in files; how records reach a socket is the
 * connection's business. */

#include "core/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/x509.h>

#include "core/log.h"

#define SELF_SIGNED_DAYS 3650
#define WARN_DAYS        14 /* before a certificate expires */
#define PEM_MAX          (64 * 1024)

struct tls_credentials {
	atomic_uint refs;
	gnutls_certificate_credentials_t certificate;
	gnutls_priority_t priorities;
	gnutls_datum_t ticket_key; /* data NULL: no tickets */
};

struct tls_credentials *tls_credentials_ref(struct tls_credentials *credentials)
{
	if (credentials) {
		atomic_fetch_add_explicit(&credentials->refs, 1, memory_order_relaxed);
	}
	return credentials;
}

void tls_credentials_unref(struct tls_credentials *credentials)
{
	if (!credentials || atomic_fetch_sub_explicit(&credentials->refs, 1, memory_order_acq_rel) != 1) {
		return;
	}
	if (credentials->certificate) {
		gnutls_certificate_free_credentials(credentials->certificate);
	}
	if (credentials->priorities) {
		gnutls_priority_deinit(credentials->priorities);
	}
	if (credentials->ticket_key.data) {
		gnutls_memset(credentials->ticket_key.data, 0, credentials->ticket_key.size);
		gnutls_free(credentials->ticket_key.data);
	}
	free(credentials);
}

/* Writes a whole new file, on disk before it has its name. */
static int write_file(const char *path, const void *data, size_t size, mode_t mode)
{
	char temp[4096];
	if (snprintf(temp, sizeof(temp), "%s.new", path) >= (int)sizeof(temp)) {
		return -ENAMETOOLONG;
	}
	int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0) {
		return -errno;
	}
	int rc = fchmod(fd, mode) < 0 ? -errno : 0;
	const char *at = data;
	while (rc == 0 && size) {
		ssize_t n = write(fd, at, size);
		if (n < 0 && errno != EINTR) {
			rc = -errno;
		} else if (n > 0) {
			at += n;
			size -= (size_t)n;
		}
	}
	if (rc == 0 && fsync(fd) < 0) {
		rc = -errno;
	}
	if (close(fd) < 0 && rc == 0) {
		rc = -errno;
	}
	if (rc == 0 && rename(temp, path) < 0) {
		rc = -errno;
	}
	if (rc < 0) {
		unlink(temp);
	}
	return rc;
}

static int fill_certificate(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const char *const *domains)
{
	unsigned char serial[16];
	time_t now = time(NULL);
	int rc = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));
	serial[0] &= 0x7f; /* a serial number is positive */
	rc = rc < 0 ? rc : gnutls_x509_crt_set_version(crt, 3);
	rc = rc < 0 ? rc : gnutls_x509_crt_set_key(crt, key);
	rc = rc < 0 ? rc : gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
	rc = rc < 0 ? rc : gnutls_x509_crt_set_activation_time(crt, now - 24 * 3600);
	rc = rc < 0 ? rc : gnutls_x509_crt_set_expiration_time(crt, now + (time_t)SELF_SIGNED_DAYS * 24 * 3600);
	rc = rc < 0 ? rc : gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, domains[0],
	                                                 (unsigned)strnlen(domains[0], 64));
	for (size_t i = 0; domains[i] && rc >= 0; i++) {
		rc = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, domains[i],
		                                          (unsigned)strlen(domains[i]),
		                                          i ? GNUTLS_FSAN_APPEND : GNUTLS_FSAN_SET);
	}
	rc = rc < 0 ? rc : gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
	rc = rc < 0 ? rc : gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
	rc = rc < 0 ? rc : gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
	return rc < 0 ? rc : gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
}

/* The key is written first: a certificate without its key would not be made anew. */
static int make_self_signed(const char *const *domains, const char *crt_path, const char *key_path, char *err, size_t errlen)
{
	gnutls_x509_crt_t crt = NULL;
	gnutls_x509_privkey_t key = NULL;
	gnutls_datum_t crt_pem = { 0 }, key_pem = { 0 };
	int rc = gnutls_x509_privkey_init(&key);
	rc = rc < 0 ? rc : gnutls_x509_crt_init(&crt);
	rc = rc < 0 ? rc : gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
	                                                GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	rc = rc < 0 ? rc : fill_certificate(crt, key, domains);
	rc = rc < 0 ? rc : gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &key_pem);
	rc = rc < 0 ? rc : gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &crt_pem);
	if (rc < 0) {
		snprintf(err, errlen, "tls: self-signed certificate: %s", gnutls_strerror(rc));
		rc = -EIO;
	}
	const char *path = key_path;
	if (rc == 0 && (rc = write_file(key_path, key_pem.data, key_pem.size, 0600)) == 0) {
		path = crt_path;
		rc = write_file(crt_path, crt_pem.data, crt_pem.size, 0644);
	}
	if (rc < 0 && rc != -EIO) {
		snprintf(err, errlen, "tls: %s: cannot be written: %s", path, strerror(-rc));
	}
	if (key_pem.data) {
		gnutls_memset(key_pem.data, 0, key_pem.size);
	}
	gnutls_free(key_pem.data);
	gnutls_free(crt_pem.data);
	if (crt) {
		gnutls_x509_crt_deinit(crt);
	}
	if (key) {
		gnutls_x509_privkey_deinit(key);
	}
	return rc;
}

/* SECRET: nobody else should be able to. Only a warning, since a renewed key with a wrong mode is better than an expired certificate. */
static int check_readable(const char *path, const char *what, bool secret, char *err, size_t errlen)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		int rc = -errno;
		snprintf(err, errlen, "tls: %s: %s cannot be read: %s", path, what, strerror(-rc));
		return rc;
	}
	if (secret && fstat(fd, &st) == 0 && (st.st_mode & S_IRWXO)) {
		log_write(LOG_WARNING, "tls: %s: %s is open to everybody on this machine; chmod o= it", path, what);
	}
	close(fd);
	return 0;
}

/* Clients refuse what has expired, but not all of them look: so it is told, and used all the same. */
static void check_times(const struct tls_credentials *credentials, const char *path)
{
	gnutls_datum_t raw;
	gnutls_x509_crt_t crt;
	if (gnutls_certificate_get_crt_raw(credentials->certificate, 0, 0, &raw) < 0 || gnutls_x509_crt_init(&crt) < 0) {
		return;
	}
	if (gnutls_x509_crt_import(crt, &raw, GNUTLS_X509_FMT_DER) >= 0) {
		time_t now = time(NULL), from = gnutls_x509_crt_get_activation_time(crt), until = gnutls_x509_crt_get_expiration_time(crt);
		char text[32] = "";
		struct tm parts;
		strftime(text, sizeof(text), "%Y-%m-%d", gmtime_r(now < from ? &from : &until, &parts));
		if (now < from) {
			log_write(LOG_WARNING, "tls: %s: the certificate is not valid before %s", path, text);
		} else if (now >= until) {
			log_write(LOG_WARNING, "tls: %s: the certificate has expired on %s", path, text);
		} else if (until - now < (time_t)WARN_DAYS * 24 * 3600) {
			log_write(LOG_WARNING, "tls: %s: the certificate expires on %s", path, text);
		}
	}
	gnutls_x509_crt_deinit(crt);
}

static int load_pair(struct tls_credentials *credentials, const char *crt, const char *key, char *err, size_t errlen)
{
	int rc = check_readable(crt, "the certificate", false, err, errlen);
	rc = rc ? rc : check_readable(key, "the key", true, err, errlen);
	if (rc < 0) {
		return rc;
	}
	rc = gnutls_certificate_set_x509_key_file2(credentials->certificate, crt, key, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (rc < 0) {
		snprintf(err, errlen, "tls: %s and %s: %s (both in PEM, the key belonging to the certificate)", crt, key,
		         gnutls_strerror(rc));
		return -EINVAL;
	}
	check_times(credentials, crt);
	return 0;
}

static int load_or_make(struct tls_credentials *credentials, const struct settings *settings, char *err, size_t errlen)
{
	if (settings->tls.certificate) {
		return load_pair(credentials, settings->tls.certificate, settings->tls.key, err, errlen);
	}
	char crt[4096], key[4096];
	if (snprintf(crt, sizeof(crt), "%s/tls.crt", settings->server.state_dir) >= (int)sizeof(crt) ||
	    snprintf(key, sizeof(key), "%s/tls.key", settings->server.state_dir) >= (int)sizeof(key)) {
		snprintf(err, errlen, "server: state-dir: the path is too long");
		return -ENAMETOOLONG;
	}
	if (access(crt, F_OK) < 0 && errno == ENOENT) {
		int rc = make_self_signed(settings->server.domains, crt, key, err, errlen);
		if (rc < 0) {
			return rc;
		}
		log_write(LOG_NOTICE, "tls: %s: self-signed certificate made (ECDSA P-256); set certificate and key in [tls] to use "
		                      "one that clients trust", crt);
	}
	return load_pair(credentials, crt, key, err, errlen);
}

int tls_credentials_load(const struct settings *settings, struct tls_credentials **out, char *err, size_t errlen)
{
	struct tls_credentials *credentials = calloc(1, sizeof(*credentials));
	if (!credentials) {
		snprintf(err, errlen, "tls: out of memory");
		return -ENOMEM;
	}
	credentials->refs = 1;
	const char *bad = NULL;
	int rc = gnutls_priority_init(&credentials->priorities, settings->tls.priorities, &bad);
	if (rc < 0) {
		snprintf(err, errlen, "tls: priorities: %s at '%s'", gnutls_strerror(rc), bad ? bad : "");
		rc = -EINVAL;
		goto fail;
	}
	rc = gnutls_certificate_allocate_credentials(&credentials->certificate);
	if (rc == 0 && settings->tls.session_tickets) {
		rc = gnutls_session_ticket_key_generate(&credentials->ticket_key);
	}
	if (rc < 0) {
		snprintf(err, errlen, "tls: %s", gnutls_strerror(rc));
		rc = -ENOMEM;
		goto fail;
	}
	rc = load_or_make(credentials, settings, err, errlen);
	if (rc < 0) {
		goto fail;
	}
	*out = credentials;
	return 0;
fail:
	tls_credentials_unref(credentials);
	return rc;
}

int tls_session_new(struct tls_credentials *credentials, gnutls_session_t *session)
{
	int rc = gnutls_init(session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	if (rc < 0) {
		return -ENOMEM;
	}
	rc = gnutls_priority_set(*session, credentials->priorities);
	rc = rc < 0 ? rc : gnutls_credentials_set(*session, GNUTLS_CRD_CERTIFICATE, credentials->certificate);
	if (rc == 0 && credentials->ticket_key.data) {
		rc = gnutls_session_ticket_enable_server(*session, &credentials->ticket_key);
	}
	if (rc < 0) {
		gnutls_deinit(*session);
		*session = NULL;
		return -ENOMEM;
	}
	gnutls_certificate_server_set_request(*session, GNUTLS_CERT_IGNORE);
	return 0;
}
