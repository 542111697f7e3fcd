/* SPDX-License-Identifier: MIT */
/* The terminal client's secrets: reading the password and making of it what the server takes. Owns their memory, which
 * is wiped before it is freed. A password comes from a file or from the terminal, never from arguments or the
 * environment. */

#include "tools/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>

#define APPLICATION "startalk-client"
#define JSON_MAX 8192
#define PADDING 11 /* bytes that PKCS#1 v1.5 adds at least */

void client_secret_free(char **secret)
{
	if (secret && *secret) {
		gnutls_memset(*secret, 0, strlen(*secret));
		free(*secret);
		*secret = NULL;
	}
}

/* ---- the password ---- */

static int check_password(struct client *client, const char *where, const char *line, size_t len)
{
	if (len > CLIENT_SECRET_MAX) {
		show_error(client, "%s: the password is longer than %d bytes", where, CLIENT_SECRET_MAX);
		return -EMSGSIZE;
	}
	if (memchr(line, '\0', len)) {
		show_error(client, "%s: there is a NUL in the password", where);
		return -EINVAL;
	}
	if (!len) {
		show_error(client, "%s: the password is empty", where);
		return -EINVAL;
	}
	return 0;
}

/* One line from FD, without its end. */
static ssize_t read_secret(int fd, bool wait, char *line, size_t size)
{
	size_t len = 0;
	for (;;) {
		struct pollfd pollfd = { .fd = fd, .events = POLLIN };
		int ready = wait ? wait_fds(&pollfd, 1, NEVER) : 1;
		if (ready < 0) {
			return ready;
		}
		ssize_t n = read(fd, line + len, size - len);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return -errno;
		}
		char *end = memchr(line + len, '\n', (size_t)n);
		len += (size_t)n;
		if (end || n == 0 || len == size) {
			len = end ? (size_t)(end - line) : len;
			return (ssize_t)(len && line[len - 1] == '\r' ? len - 1 : len);
		}
	}
}

static int read_file(struct client *client, const char *path, char *line, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t len = fd < 0 ? -errno : read_secret(fd, false, line, size);
	if (fd >= 0) {
		close(fd);
	}
	if (len < 0) {
		show_error(client, "%s: %s", path, strerror((int)-len));
		return (int)len;
	}
	int rc = check_password(client, path, line, (size_t)len);
	if (rc == 0) {
		line[len] = '\0';
	}
	return rc;
}

static int ask(struct client *client, char *line, size_t size)
{
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		show_error(client, "no terminal to ask for the password: give --password-file FILE");
		return -ENOTTY;
	}
	struct termios before, silent;
	ssize_t len = tcgetattr(fd, &before) < 0 ? -errno : 0;
	silent = before;
	silent.c_lflag &= ~(tcflag_t)ECHO;
	if (len == 0) {
		len = tcsetattr(fd, TCSAFLUSH, &silent) < 0 ? -errno : 0;
	}
	if (len == 0) {
		/* Only now: who answers the question at once shall neither be shown nor be flushed away. */
		dprintf(fd, "Password for %s: ", client->bare);
		len = read_secret(fd, true, line, size);
		tcsetattr(fd, TCSAFLUSH, &before);
		dprintf(fd, "\n");
	}
	close(fd);
	if (len < 0) {
		show_error(client, "no password: %s", len == -EINTR ? "interrupted" : strerror((int)-len));
		return (int)len;
	}
	int rc = check_password(client, "terminal", line, (size_t)len);
	if (rc == 0) {
		line[len] = '\0';
	}
	return rc;
}

int client_password(struct client *client, const char *file, char **secret)
{
	char line[CLIENT_SECRET_MAX + 2]; /* one more shows that it is too long */
	int rc = file ? read_file(client, file, line, sizeof(line)) : ask(client, line, sizeof(line));
	if (rc == 0) {
		*secret = strdup(line);
		if (!*secret) {
			show_error(client, "out of memory");
			rc = -ENOMEM;
		}
	}
	gnutls_memset(line, 0, sizeof(line));
	return rc;
}

/* ---- the credential ---- */

struct json {
	char text[JSON_MAX];
	size_t len;
	bool full;
};

static void put(struct json *json, const char *text, size_t len)
{
	if (len >= sizeof(json->text) - json->len) {
		json->full = true;
		return;
	}
	memcpy(json->text + json->len, text, len);
	json->len += len;
	json->text[json->len] = '\0';
}

static void put_member(struct json *json, const char *name, const char *value)
{
	char escape[8];
	put(json, json->len ? ",\"" : "{\"", 2);
	put(json, name, strlen(name));
	put(json, "\":\"", 3);
	for (const char *at = value; *at; at++) {
		unsigned char byte = (unsigned char)*at;
		if (byte < 0x20) {
			put(json, escape, (size_t)snprintf(escape, sizeof(escape), "\\u%04x", byte));
		} else if (byte == '"' || byte == '\\') {
			put(json, escape, (size_t)snprintf(escape, sizeof(escape), "\\%c", byte));
		} else {
			put(json, at, 1);
		}
	}
	put(json, "\"", 1);
}

/* The members that clients send; where the key is too short for all of them only the password, which is what counts. */
static void make_json(const struct client *client, const char *password, size_t room, struct json *json)
{
	char date[32] = "", device[CLIENT_ID_SIZE];
	time_t now = time(NULL);
	struct tm local;
	if (localtime_r(&now, &local)) {
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &local);
	}
	client_make_id(device);
	json->len = 0;
	put_member(json, "p", password);
	put_member(json, "u", client->account->user);
	put_member(json, "a", APPLICATION);
	put_member(json, "d", date);
	put_member(json, "mk", device);
	put(json, "}", 1);
	if (json->len > room) {
		json->len = 0;
		put_member(json, "p", password);
		put(json, "}", 1);
	}
}

static int load_key(struct client *client, gnutls_pubkey_t *key, size_t *room)
{
	const char *path = client->account->rsa_key;
	gnutls_datum_t pem = { 0 };
	unsigned bits = 0;
	int rc = gnutls_load_file(path, &pem);
	if (rc < 0) {
		show_error(client, "%s: %s", path, errno ? strerror(errno) : gnutls_strerror(rc));
		return -EACCES;
	}
	rc = gnutls_pubkey_init(key);
	rc = rc < 0 ? rc : gnutls_pubkey_import(*key, &pem, GNUTLS_X509_FMT_PEM);
	gnutls_free(pem.data);
	if (rc < 0) {
		show_error(client, "%s: not a public key in PEM (\"BEGIN PUBLIC KEY\"): %s", path, gnutls_strerror(rc));
		return -EINVAL;
	}
	if (gnutls_pubkey_get_pk_algorithm(*key, &bits) != GNUTLS_PK_RSA || bits < 1024) {
		show_error(client, "%s: not an RSA key of 1024 bits or more", path);
		return -EINVAL;
	}
	*room = (bits + 7) / 8 - PADDING;
	return 0;
}

/* CREDENTIAL gets base64 of the encrypted password. */
static int encrypt(struct client *client, const char *password, gnutls_datum_t *credential)
{
	gnutls_pubkey_t key = NULL;
	struct json json = { 0 };
	gnutls_datum_t secret = { 0 };
	size_t room = 0;
	errno = 0;
	int rc = load_key(client, &key, &room);
	if (rc < 0) {
		goto out;
	}
	make_json(client, password, room, &json);
	if (json.full || json.len > room) {
		show_error(client, "%s: the password is too long for this key", client->account->rsa_key);
		rc = -EMSGSIZE;
		goto out;
	}
	gnutls_datum_t plain = { .data = (unsigned char *)json.text, .size = (unsigned)json.len };
	rc = gnutls_pubkey_encrypt_data(key, 0, &plain, &secret);
	rc = rc < 0 ? rc : gnutls_base64_encode2(&secret, credential);
	if (rc < 0) {
		show_error(client, "%s: %s", client->account->rsa_key, gnutls_strerror(rc));
		rc = -EINVAL;
	}
out:
	gnutls_memset(&json, 0, sizeof(json));
	gnutls_free(secret.data);
	if (key) {
		gnutls_pubkey_deinit(key);
	}
	return rc;
}

int client_auth_key(struct client *client, const char *password, char **secret)
{
	const char *user = client->account->user;
	gnutls_datum_t credential = { 0 }, encoded = { 0 };
	int rc = client->account->rsa_key ? encrypt(client, password, &credential) : 0;
	if (rc < 0) {
		return rc;
	}
	size_t user_len = strlen(user), len = client->account->rsa_key ? credential.size : strlen(password);
	size_t size = user_len + len + 2;
	unsigned char *plain = malloc(size);
	if (plain) {
		plain[0] = '\0'; /* no authzid */
		memcpy(plain + 1, user, user_len + 1);
		memcpy(plain + user_len + 2, client->account->rsa_key ? (const char *)credential.data : password, len);
		gnutls_datum_t whole = { .data = plain, .size = (unsigned)size };
		rc = gnutls_base64_encode2(&whole, &encoded);
		gnutls_memset(plain, 0, size);
		free(plain);
	}
	*secret = plain && rc >= 0 ? strndup((const char *)encoded.data, encoded.size) : NULL;
	if (encoded.data) {
		gnutls_memset(encoded.data, 0, encoded.size);
	}
	gnutls_free(encoded.data);
	gnutls_free(credential.data);
	if (!*secret) {
		show_error(client, "out of memory");
		return -ENOMEM;
	}
	return 0;
}
