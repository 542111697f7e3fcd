/* SPDX-License-Identifier: MIT */
/* The codec against the recorded frames: every one, in both directions and from both sides, cut short at every byte,
 * and the frames of the login that have no XML. */

#include "core/arena.h"
#include "proto/frame.h"
#include "tests/unit/codec_help.h"

static void every_frame_of_a_client_is_the_stanza_it_stands_for(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	size_t n, stanzas = 0;
	const struct vector *vectors = vectors_load(&n);
	for (size_t i = 0; i < n; i++) {
		if (!vectors[i].from_client) {
			continue;
		}
		struct stk_stanza *stanza;
		const char *why;
		int rc = decode_frame(&context, vectors[i].frame, vectors[i].len, &stanza, &why);
		bool broken = strcmp(vectors[i].stands_for, "broken") == 0;
		if (rc != (broken ? -EBADMSG : 0) || (broken && !why)) {
			fail_msg("%s: %d %s", vectors[i].name, rc, why ? why : "");
		}
		if (strcmp(vectors[i].stands_for, "stanza") != 0) {
			assert_null(stanza);
			continue;
		}
		stanzas++;
		if (strcmp(vectors[i].name, "auth-plain-nomsgid") == 0) {
			assert_int_equal(strlen(stk_stanza_id(stanza)), 32); /* made up */
			stk_node_set(stanza_root(stanza), "id", "PBMSG_290711614599258867");
		}
		assert_stanza(stanza, vectors[i].xml);
		stk_stanza_unref(stanza);
	}
	assert_int_equal(stanzas, 65);
}

static void assert_same_frame(const char *name, const struct buf *made, const uint8_t *frame, size_t len)
{
	struct buf own = { 0 }, theirs = { 0 };
	if (!made->len != !len) {
		fail_msg("%s: %s", name, len ? "not sent" : "sent");
	}
	if (!len) {
		return;
	}
	open_frame(buf_data(made), made->len, &own);
	open_frame(frame, len, &theirs);
	if (own.len != theirs.len || memcmp(buf_data(&own), buf_data(&theirs), own.len) != 0) {
		fail_msg("%s: another ProtoMessage", name);
	}
	bool is_tea = own.len <= FRAME_TEA_MAX;
	if (is_tea && (made->len != len || memcmp(buf_data(made), frame, len) != 0)) {
		fail_msg("%s: another frame", name);
	}
	buf_fini(&own);
	buf_fini(&theirs);
}

static void every_stanza_of_the_server_is_the_recorded_frame(void **state)
{
	(void)state;
	size_t n, frames = 0;
	const struct vector *vectors = vectors_load(&n);
	for (size_t i = 0; i < n; i++) {
		if (vectors[i].from_client || !vectors[i].xml) {
			continue;
		}
		struct codec_context context = context_of(CODEC_SERVER, vectors[i].session);
		struct stk_stanza *stanza = stanza_of(vectors[i].xml);
		struct buf made = { 0 };
		assert_int_equal(codec_encode(&context, stanza, &made), 0);
		assert_same_frame(vectors[i].name, &made, vectors[i].frame, vectors[i].len);
		buf_fini(&made);
		stk_stanza_unref(stanza);
		frames++;
	}
	assert_int_equal(frames, 89);
}

/* The frames of the login that the vectors describe in words only. */
static const struct {
	const char *name, *xml;
} logins[] = {
	{ "welcome-tls",
	  "<stream:stream xmlns='jabber:client' from='startalk.tech' version='1.0' user='chao.zhang' sockmod='TLS'>" },
	{ "welcome-notls", "<stream:stream xmlns='jabber:client' from='startalk.tech' version='1.0' user='alice'>" },
	{ "welcome-nouser", "<stream:stream xmlns='jabber:client' from='startalk.tech' version='1.0' sockmod='TLS'>" },
	{ "proceedtls", "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls' user='' domain='startalk.tech'/>" },
	{ "auth-success", "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl' id='PBMSG_290711614599258867' "
			  "user='alice' domain='startalk.tech'/>" },
	{ "auth-success-noid",
	  "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl' user='alice' domain='startalk.tech'/>" },
	{ "auth-failure-not-authorized",
	  "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl' reason='not-authorized' domain='startalk.tech'/>" },
	{ "auth-failure-bad-protocol",
	  "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl' reason='bad-protocol' domain='startalk.tech'/>" },
	{ "auth-failure-invalid-mechanism",
	  "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl' reason='invalid-mechanism' domain='startalk.tech'/>" },
	{ "streamend-222-host", "<stream:end code='222' reason='host is not surport'/>" },
	{ "streamend-222-version", "<stream:end code='222' reason='vresion is error'/>" },
	{ "streamend-102", "<stream:end code='102' reason='wait for stream timeout'/>" },
	{ "streamend-100", "<stream:end code='100' reason='User pid carsh'/>" },
};

static void every_frame_of_the_login_is_made(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_SERVER, NULL);
	size_t n, found = 0;
	const struct vector *vectors = vectors_load(&n);
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; !vectors[i].from_client && j < COUNT(logins); j++) {
			if (strcmp(logins[j].name, vectors[i].name) == 0) {
				struct stk_stanza *stanza = stanza_of(logins[j].xml);
				struct buf made = { 0 };
				assert_int_equal(codec_encode(&context, stanza, &made), 0);
				assert_same_frame(vectors[i].name, &made, vectors[i].frame, vectors[i].len);
				buf_fini(&made);
				stk_stanza_unref(stanza);
				found++;
			}
		}
	}
	assert_int_equal(found, COUNT(logins));
}

static void every_frame_of_the_server_is_read_and_made_again(void **state)
{
	(void)state;
	size_t n, frames = 0;
	const struct vector *vectors = vectors_load(&n);
	for (size_t i = 0; i < n; i++) {
		if (vectors[i].from_client || !vectors[i].len) {
			continue;
		}
		struct codec_context context = context_of(CODEC_SERVER, NULL);
		struct stk_stanza *stanza;
		const char *why;
		struct buf made = { 0 };
		assert_int_equal(decode_frame(&context, vectors[i].frame, vectors[i].len, &stanza, &why), 0);
		if (!stanza) {
			fail_msg("%s: nothing", vectors[i].name);
		}
		assert_int_equal(codec_encode(&context, stanza, &made), 0);
		assert_same_frame(vectors[i].name, &made, vectors[i].frame, vectors[i].len);
		buf_fini(&made);
		stk_stanza_unref(stanza);
		frames++;
	}
	assert_int_equal(frames, 94);
}

static void every_stanza_of_a_client_survives_the_way_back(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_CLIENT, "alice@startalk.tech");
	size_t n, frames = 0;
	const struct vector *vectors = vectors_load(&n);
	for (size_t i = 0; i < n; i++) {
		struct stk_stanza *first = NULL, *again;
		const char *why;
		struct buf made = { 0 };
		if (vectors[i].from_client && strcmp(vectors[i].stands_for, "stanza") == 0) {
			assert_int_equal(decode_frame(&context, vectors[i].frame, vectors[i].len, &first, &why), 0);
		}
		if (!first) {
			continue;
		}
		if (!stk_stanza_from(first) && stanza_element(first) == STK_MESSAGE) {
			stk_stanza_set_from(first, context.self); /* the session's, from the second frame on */
		}
		assert_int_equal(codec_encode(&context, first, &made), 0);
		assert_true(made.len > 0);
		assert_int_equal(decode_frame(&context, buf_data(&made), made.len, &again, &why), 0);
		if (!again || !stanza_equal(first, again)) {
			fail_msg("%s is another stanza after the way back", vectors[i].name);
		}
		stk_stanza_unref(first);
		stk_stanza_unref(again);
		buf_fini(&made);
		frames++;
	}
	assert_int_equal(frames, 65);
}

static void envelope_tells_who_sent_it(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	Startalk__IQMessage iq;
	startalk__iqmessage__init(&iq);
	char key[] = "PING";
	iq.key = key;
	const char *const froms[] = { "alice@example.org/x", "", NULL };
	for (size_t i = 0; i < COUNT(froms); i++) {
		struct buf frame = { 0 };
		struct stk_stanza *stanza;
		const char *from, *why;
		frame_of(&frame, 2, &iq.base, froms[i], NULL);
		assert_int_equal(codec_decode(&context, buf_data(&frame), frame.len, &stanza, &from, &why), 0);
		assert_null(stk_stanza_from(stanza)); /* no part of an IQ */
		if (i == 0) {
			assert_string_equal(from, froms[0]);
		} else {
			assert_null(from);
		}
		stk_stanza_unref(stanza);
		buf_fini(&frame);
	}
}

/* ---- bad input ---- */

static void cut_frames_never_do_harm(void **state)
{
	(void)state;
	size_t n;
	const struct vector *vectors = vectors_load(&n);
	for (size_t i = 0; i < n; i++) {
		size_t len = 0;
		int prefix = vectors[i].len ? frame_prefix(vectors[i].frame, vectors[i].len, &len) : 0;
		for (size_t cut = 0; cut < len; cut++) {
			for (int side = CODEC_CLIENT; side <= CODEC_SERVER; side++) {
				struct codec_context context = context_of((enum codec_side)side, vectors[i].session);
				struct stk_stanza *stanza;
				const char *why = NULL;
				uint8_t *exact = malloc(cut ? cut : 1);
				assert_non_null(exact);
				memcpy(exact, vectors[i].frame + prefix, cut);
				int rc = codec_decode(&context, exact, cut, &stanza, NULL, &why);
				assert_int_equal(rc, cut ? -EBADMSG : 0);
				assert_null(stanza);
				assert_true(rc == 0 || why);
				free(exact);
			}
		}
	}
}

/* A ProtoMessage cut short behind a ProtoHeader that is whole. */
static void cut_messages_never_do_harm(void **state)
{
	(void)state;
	size_t n, good = 0, broken = 0;
	const struct vector *vectors = vectors_load(&n);
	for (size_t i = 0; i < n; i++) {
		struct buf msg = { 0 };
		if (strcmp(vectors[i].stands_for, "stanza") != 0 || !vectors[i].len) {
			continue;
		}
		open_frame(vectors[i].frame, vectors[i].len, &msg);
		for (size_t cut = 0; cut < msg.len; cut++) {
			struct buf frame = { 0 };
			struct stk_stanza *stanza;
			const char *why = NULL;
			struct codec_context context =
				context_of(vectors[i].from_client ? CODEC_CLIENT : CODEC_SERVER, NULL);
			assert_int_equal(frame_wrap(buf_data(&msg), cut, &frame), 0);
			int rc = decode_frame(&context, buf_data(&frame), frame.len, &stanza, &why);
			assert_true(rc == 0 || (rc == -EBADMSG && why && !stanza));
			stk_stanza_unref(stanza);
			buf_fini(&frame);
			*(rc == 0 ? &good : &broken) += 1;
		}
		buf_fini(&msg);
	}
	assert_true(good > 100 && broken > 1000);
}

static void assert_bad_inner(int32_t signal, const uint8_t *inner, size_t n, const char *wanted)
{
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	struct buf frame = { 0 };
	struct stk_stanza *stanza;
	const char *why;
	frame_of_bytes(&frame, signal, inner, n);
	assert_int_equal(codec_decode(&context, buf_data(&frame), frame.len, &stanza, NULL, &why), -EBADMSG);
	assert_string_equal(why, wanted);
	assert_null(stanza);
	buf_fini(&frame);
}

static void bad_text_is_refused_wherever_it_is(void **state)
{
	(void)state;
	assert_bad_inner(2, (const uint8_t *)"\x12\x01\xff", 3, "text is not UTF-8");
	assert_bad_inner(1, (const uint8_t *)"\x32\x03\x12\x01\xff", 5, "text is not UTF-8");
	assert_bad_inner(6, (const uint8_t *)"\x3a\x02\xc0\x80", 4, "text is not UTF-8");
	assert_bad_inner(11, (const uint8_t *)"\x3a\x02\xc0\x80", 4,
			 "text is not UTF-8"); /* a note stands for nothing */
	assert_bad_inner(51, (const uint8_t *)"\x0a\x01\xff", 3, "text is not UTF-8");
	assert_bad_inner(6, (const uint8_t *)"\x3a\x01\x00", 3, "U+0000 in text");
	assert_bad_inner(45, (const uint8_t *)"\x22\x02x\x00", 4, "U+0000 in text");
	assert_bad_inner(100, (const uint8_t *)"\x0a\x01\xfe", 3, "text is not UTF-8");

	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	struct stk_stanza *stanza;
	const char *why;
	const char header[] = "\x32\x07\x10\x02\x1a\x01\xff\x2a\x00"; /* the envelope's from */
	assert_int_equal(codec_decode(&context, (const uint8_t *)header, sizeof(header) - 1, &stanza, NULL, &why),
			 -EBADMSG);
	assert_string_equal(why, "text is not UTF-8");
}

static void floods_of_empty_headers_are_refused(void **state)
{
	(void)state;
	size_t n = 1024 * 1024;
	uint8_t *inner = malloc(2 * n + 5);
	assert_non_null(inner);
	const uint8_t head[] = { 0x4a, 0x80, 0x80, 0x80, 0x01 }; /* XmppMessage.body of 2 MiB */
	memcpy(inner, head, sizeof(head));
	for (size_t i = 0; i < n; i++) {
		inner[5 + 2 * i] = 0x0a;
		inner[6 + 2 * i] = 0;
	}
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	context.inflate_max = 4 * 1024 * 1024;
	struct buf frame = { 0 };
	struct stk_stanza *stanza;
	const char *why;
	frame_of_bytes(&frame, 6, inner, 2 * n + 5);
	assert_int_equal(codec_decode(&context, buf_data(&frame), frame.len, &stanza, NULL, &why), -EBADMSG);
	assert_string_equal(why, "too many headers");
	context.inflate_max = 1024 * 1024;
	assert_int_equal(codec_decode(&context, buf_data(&frame), frame.len, &stanza, NULL, &why), -EMSGSIZE);
	buf_fini(&frame);
	free(inner);
}

static void server_may_send_what_a_client_may_not(void **state)
{
	(void)state;
	/* a room of 600 members */
	struct codec_context server = context_of(CODEC_SERVER, "alice@example.org/x"),
			     client = context_of(CODEC_CLIENT, NULL);
	struct stk_stanza *stanza = stk_stanza_new(STK_IQ, "result", "i"), *again;
	struct stk_node *query =
		stk_node_add(stk_stanza_edit(stanza), "query", "http://jabber.org/protocol/muc#register");
	for (int i = 0; i < 600; i++) {
		struct stk_node *user = stk_node_add(query, "m_user", NULL);
		stk_node_set(user, "jid", "someone@example.org");
		stk_node_set(user, "affiliation", "none");
	}
	stk_stanza_set_from(stanza, "room@conf.example.org");
	stk_stanza_set_to(stanza, "alice@example.org/x");
	struct buf frame = { 0 };
	const char *why;
	assert_int_equal(codec_encode(&server, stanza, &frame), 0);
	assert_int_equal(decode_frame(&server, buf_data(&frame), frame.len, &again, &why), 0);
	assert_true(stanza_equal(stanza, again));
	stk_stanza_unref(again);
	assert_int_equal(decode_frame(&client, buf_data(&frame), frame.len, &again, &why), -EBADMSG);
	stk_stanza_unref(stanza);
	buf_fini(&frame);
}

static int fini(void **state)
{
	(void)state;
	vectors_free();
	frame_thread_fini();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_frame_of_a_client_is_the_stanza_it_stands_for),
		cmocka_unit_test(every_stanza_of_the_server_is_the_recorded_frame),
		cmocka_unit_test(every_frame_of_the_login_is_made),
		cmocka_unit_test(every_frame_of_the_server_is_read_and_made_again),
		cmocka_unit_test(every_stanza_of_a_client_survives_the_way_back),
		cmocka_unit_test(envelope_tells_who_sent_it),
		cmocka_unit_test(cut_frames_never_do_harm),
		cmocka_unit_test(cut_messages_never_do_harm),
		cmocka_unit_test(bad_text_is_refused_wherever_it_is),
		cmocka_unit_test(floods_of_empty_headers_are_refused),
		cmocka_unit_test(server_may_send_what_a_client_may_not),
	};
	return cmocka_run_group_tests(tests, NULL, fini);
}
