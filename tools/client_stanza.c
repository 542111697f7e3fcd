/* SPDX-License-Identifier: MIT */
/* Stanzas of a client's session to frames and back, and ids for them. Owns the codec's view of the connection; what a
 * stanza means, and waiting for one, is its callers' business. */

#include "tools/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <gnutls/crypto.h>

#include "core/stanza.h"
#include "proto/codec.h"

void client_make_id(char id[CLIENT_ID_SIZE])
{
	unsigned char bytes[(CLIENT_ID_SIZE - 1) / 2];
	if (gnutls_rnd(GNUTLS_RND_NONCE, bytes, sizeof(bytes)) < 0) {
		abort(); /* without random numbers there is no TLS either */
	}
	for (size_t i = 0; i < sizeof(bytes); i++) {
		snprintf(id + 2 * i, 3, "%02x", bytes[i]);
	}
}

/* ---- stanzas out and in ---- */

static struct codec_context make_context(const struct client *client, enum codec_side side)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (struct codec_context){ .self = client->full ? client->full : client->bare,
				       .now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
				       .inflate_max = NET_FRAME_MAX,
				       .side = side };
}

static const char *say_unsent(int rc)
{
	switch (rc) {
	case -ENOMEM: return "out of memory";
	case -EILSEQ: return "not sent: it is not valid UTF-8";
	case -EMSGSIZE: return "not sent: it is too long";
	default: return "not sent: the protocol has no frame for it";
	}
}

int client_send(struct client *client, struct stk_stanza *stanza, const struct stk_stanza *shown)
{
	struct codec_context context = make_context(client, CODEC_CLIENT);
	size_t before = client->net.out.len;
	int rc = !stanza || stanza_failed(stanza) ? -ENOMEM : codec_encode(&context, stanza, &client->net.out);
	if (rc == 0 && client->net.out.len == before) {
		rc = -EINVAL;
	}
	if (rc < 0) {
		show_error(client, "%s", say_unsent(rc));
	} else if (client->run->raw) {
		show_raw(client, ">> ", shown ? shown : stanza, false);
	}
	stk_stanza_unref(stanza);
	client->unsettled |= rc == 0;
	return rc;
}

int client_receive(struct client *client, struct stk_stanza **stanza)
{
	struct codec_context context = make_context(client, CODEC_SERVER);
	const uint8_t *frame;
	size_t len;
	int rc;
	*stanza = NULL;
	while ((rc = net_frame(&client->net, &frame, &len)) > 0) {
		const char *why = "it does not decode";
		rc = codec_decode(&context, frame, len, stanza, NULL, &why);
		net_frame_done(&client->net);
		if (rc < 0) {
			show_error(client, "the server sent a broken frame: %s", why ? why : strerror(-rc));
			return -EBADMSG;
		}
		if (*stanza && client->run->raw) {
			show_raw(client, "<< ", *stanza, true);
		}
		if (*stanza) {
			return 1;
		}
	}
	if (rc < 0) {
		show_error(client, "the server sent %s", client->net.error);
	}
	return rc;
}
