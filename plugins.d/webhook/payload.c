/* SPDX-License-Identifier: MIT */
/* What the other side sees: messages as JSON, and the signature by which it knows that they come from this server. */

#include "payload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <jansson.h>

static void set_attr(json_t *event, const char *key, const struct stk_node *node, const char *name)
{
	if (stk_node_attr(node, name)) {
		json_object_set_new(event, key, json_string(stk_node_attr(node, name)));
	}
}

char *payload_event(const struct stk_stanza *message)
{
	const struct stk_node *root = stk_stanza_root(message), *body = stk_node_child(root, "body", NULL);
	const char *time = stk_node_attr(root, "msec_times"), *text = stk_node_text(body);
	json_t *event = json_object();
	set_attr(event, "from", root, "from");
	set_attr(event, "to", root, "to");
	set_attr(event, "type", root, "type");
	set_attr(event, "id", body, "id");
	set_attr(event, "kind", body, "msgType");
	set_attr(event, "extend_info", body, "extendInfo");
	json_object_set_new(event, "time", json_integer(time ? strtoll(time, NULL, 10) : 0));
	json_object_set_new(event, "text", json_string(text ? text : ""));
	char *line = json_dumps(event, JSON_COMPACT); /* control characters are escaped in it: it is one line */
	json_decref(event);
	return line;
}

void payload_sign(const char *secret, const char *body, size_t len, char *out, size_t size)
{
	unsigned char hmac[32];
	size_t at = (size_t)snprintf(out, size, "X-Startalk-Signature: sha256=");
	gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, strlen(secret), body, len, hmac);
	for (size_t i = 0; i < sizeof(hmac); i++) {
		at += (size_t)snprintf(out + at, size - at, "%02x", hmac[i]);
	}
}

int payload_read_secret(const char *path, char *out, char *err, size_t errlen)
{
	FILE *file = path ? fopen(path, "re") : NULL;
	out[0] = '\0';
	if (!path) {
		return 0;
	}
	int rc = file ? 0 : -errno;
	if (file) {
		rc = fgets(out, PAYLOAD_SECRET_MAX, file) ? 0 : -EINVAL;
		fclose(file);
		out[strcspn(out, "\r\n")] = '\0';
		rc = *out ? rc : -EINVAL;
	}
	if (rc < 0) {
		snprintf(err, errlen, "secret-file: %s: %s", path,
			 rc == -EINVAL ? "its first line is empty" : strerror(-rc));
	}
	return rc;
}
