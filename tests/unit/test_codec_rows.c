/* SPDX-License-Identifier: MIT */
/* Presences, messages and the login beyond the recorded frames: rows by number and by name, what is put right on the
 * way in, what has no frame. */

#include "proto/frame.h"
#include "tests/unit/codec_help.h"

#define M "http://jabber.org/protocol/"

/* ---- presence ---- */

static struct stk_stanza *decode_presence(const char *key, int32_t number, const char *value, const struct head *heads)
{
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	struct made_body body;
	Startalk__PresenceMessage presence;
	startalk__presence_message__init(&presence);
	presence.key = text(key);
	presence.has_definedkey = number != 0;
	presence.definedkey = number;
	presence.value = text(value);
	presence.body = heads ? make_body(&body, heads, "data") : NULL;
	return decode_inner(&context, 1, &presence.base, ALICE, "bob@example.org");
}

static void presences_go_by_number_and_by_key(void **state)
{
	(void)state;
	const struct head status[] = { { 0, "show", "away" }, { 0, "priority", "3" }, { 0, "status", "out" }, { 0 } };
	const struct head manual[] = { { 0, "result", "allow" }, { 34, NULL, "ok" }, { 0, "jid", "dropped" }, { 0 } };
	const struct {
		const char *key;
		int32_t number;
		const char *value;
		const struct head *heads;
		const char *xml;
	} cases[] = {
		{ NULL, 1, "5", NULL, "<presence><priority>5</priority></presence>" },
		{ "status", 1, "5", NULL, "<presence><priority>5</priority></presence>" }, /* the number decides */
		{ "priority", 6, "-1", NULL, "<presence><priority>-1</priority></presence>" },
		{ "priority", 0, NULL, NULL, "<presence><priority/></presence>" },
		{ "status", 0, "x", status,
		  "<presence><show>away</show><priority>3</priority><status>out</status></presence>" },
		{ NULL, 3, NULL, manual,
		  "<presence xmlns='jabber:x:manual_authentication' to='bob@example.org' "
		  "type='manual_authentication_confirm' result='allow' reason='ok'/>" },
		{ "notify", 0, NULL, status,
		  "<presence from='" ALICE "' to='bob@example.org' data='data' type='notify'>"
		  "<notify xmlns='jabber:x:presence_notify'/></presence>" },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct stk_stanza *stanza =
			decode_presence(cases[i].key, cases[i].number, cases[i].value, cases[i].heads);
		assert_stanza(stanza, cases[i].xml);
		assert_round_trip(CODEC_CLIENT, ALICE, stanza);
		stk_stanza_unref(stanza);
	}
	assert_null(decode_presence("result", 6, NULL, NULL));
	assert_null(decode_presence(NULL, 0, NULL, NULL));
	assert_null(decode_presence(NULL, 8, NULL, NULL));
}

static void assert_told(const char *xml, bool sent)
{
	struct codec_context context = context_of(CODEC_SERVER, FULL);
	struct stk_stanza *stanza = stanza_of(xml);
	struct buf out = { 0 };
	assert_int_equal(codec_encode(&context, stanza, &out), 0);
	if ((out.len > 0) != sent) {
		fail_msg("%s: %s", sent ? "not sent" : "sent", xml);
	}
	buf_fini(&out);
	stk_stanza_unref(stanza);
}

static void presences_without_a_frame_are_not_sent(void **state)
{
	(void)state;
	assert_told("<presence><show>away</show></presence>", true);
	assert_told("<presence/>", false);
	assert_told("<presence type='unavailable'><show>away</show></presence>", false);
	assert_told("<presence type='error'/>", false);
	assert_told("<presence><x xmlns='" M "muc#user'/></presence>", false);
	assert_told("<presence type='unavailable'><x xmlns='" M "muc#user'><destroy/></x></presence>", false);
	assert_told("<presence xmlns='jabber:x:mask_user'/>", false);
	assert_told("<presence xmlns='" M "muc#vcard_update'/>", false);
	assert_told("<presence xmlns='jabber:x:verify_friend' method='other'/>", false);
}

static void joined_user_is_named_by_its_real_jid_without_a_jid(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_SERVER, FULL);
	struct stk_stanza *stanza =
		stanza_of("<presence from='" ROOM "/bob' to='" FULL "'><x xmlns='" M
			  "muc#user'><item real_jid='bob@example.org' affiliation='none'/></x></presence>");
	Startalk__ProtoMessage *envelope = encode_stanza(&context, stanza);
	Startalk__PresenceMessage *presence =
		startalk__presence_message__unpack(NULL, envelope->message.len, envelope->message.data);
	assert_string_equal(presence->value, "user_join_muc");
	assert_int_equal(presence->body->n_headers, 2);
	assert_int_equal(presence->body->headers[0]->definedkey, 7);
	assert_string_equal(presence->body->headers[0]->value, "bob");
	startalk__presence_message__free_unpacked(presence, NULL);
	startalk__proto_message__free_unpacked(envelope, NULL);
	stk_stanza_unref(stanza);
}

static void notice_needs_a_number_as_category(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_SERVER, FULL);
	struct stk_stanza *stanza = stanza_of("<presence type='notify' category='nine' data='x'/>");
	struct buf out = { 0 };
	assert_int_equal(codec_encode(&context, stanza, &out), -EINVAL);
	stk_stanza_unref(stanza);
	stanza = stanza_of("<presence from='" ALICE "' to='" FULL "' type='notify' category='4711' data='x'>"
			   "<notify xmlns='jabber:x:presence_notify'/></presence>");
	assert_round_trip(CODEC_SERVER, FULL, stanza);
	stk_stanza_unref(stanza);
}

/* ---- messages ---- */

static struct stk_stanza *decode_message(int32_t signal, const struct head *heads, const char *value,
					 const Startalk__XmppMessage *like)
{
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	struct made_body body;
	Startalk__XmppMessage message = *like;
	message.body = make_body(&body, heads, value);
	return decode_inner(&context, signal, &message.base, ALICE, "bob@example.org");
}

static void message_with_nothing_but_text_is_completed(void **state)
{
	(void)state;
	Startalk__XmppMessage message;
	startalk__xmpp_message__init(&message);
	struct stk_stanza *stanza = decode_message(6, NULL, "hi", &message);
	const struct stk_node *body = stk_stanza_payload(stanza);
	assert_int_equal(strlen(stk_node_attr(body, "id")), 32);
	stk_node_set((struct stk_node *)(uintptr_t)body, "id", "m");
	assert_stanza(stanza, "<message from='" ALICE
			      "' to='bob@example.org' type='chat' client_type='ClientTypePC' client_ver='0'>"
			      "<body id='m' msgType='0'>hi</body></message>");
	stk_stanza_unref(stanza);
}

static void every_header_of_a_message_has_its_place(void **state)
{
	(void)state;
	const struct head numbers[] = { { 1, NULL, "4" },
					{ 2, NULL, "{}" },
					{ 3, NULL, "e" },
					{ 4, NULL, "b" },
					{ 5, NULL, "1" },
					{ 0, "auto_reply", "true" },
					{ 0 } };
	const struct head names[] = { { 0, "qchatid", "4" },
				      { 0, "channelid", "{}" },
				      { 0, "extendInfo", "e" },
				      { 0, "backupinfo", "b" },
				      { 0, "read_type", "1" },
				      { 0, "auto_reply", "true" },
				      { 0 } };
	Startalk__XmppMessage message;
	startalk__xmpp_message__init(&message);
	message.messageid = text("m");
	message.has_messagetype = true;
	message.messagetype = -11;
	message.has_clientversion = true;
	message.clientversion = INT64_MAX;
	for (int i = 0; i < 2; i++) {
		struct stk_stanza *stanza = decode_message(132, i ? names : numbers, "hi", &message);
		assert_stanza(
			stanza,
			"<message from='" ALICE "' to='bob@example.org' type='consult' client_type='ClientTypePC' "
			"client_ver='9223372036854775807' read_type='1' qchatid='4' auto_reply='true'>"
			"<body id='m' msgType='-11' channelid='{}' extendInfo='e' backupinfo='b'>hi</body></message>");
		assert_round_trip(CODEC_CLIENT, ALICE, stanza);
		stk_stanza_unref(stanza);
	}
}

static void clients_cannot_claim_what_is_the_servers_to_say(void **state)
{
	(void)state;
	const struct head heads[] = { { 72, NULL, "true" }, { 0, "errcode", "406" }, { 0, "qchatid", "6" }, { 0 } };
	Startalk__XmppMessage message;
	startalk__xmpp_message__init(&message);
	message.messageid = text("m");
	struct stk_stanza *stanza = decode_message(6, heads, "hi", &message);
	assert_stanza(stanza, "<message from='" ALICE
			      "' to='bob@example.org' type='chat' client_type='ClientTypePC' client_ver='0'>"
			      "<body id='m' msgType='0'>hi</body></message>");
	stk_stanza_unref(stanza);
}

static void headers_of_a_message_are_sent_in_order(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_SERVER, FULL);
	struct stk_stanza *stanza =
		stanza_of("<message type='consult' carbon_message='true' auto_reply='true' read_type='1' qchatid='5' "
			  "realfrom='rf' realto='rt' "
			  "originfrom='of' originto='ot' origintype='oy' sendjid='sj' msec_times='12345'>"
			  "<error code='406'/><body backupinfo='b' extendInfo='e' channelid='c' id='m' "
			  "msgType='7'>t</body></message>");
	static const struct head wanted[] = { { 0, "qchatid", "5" },   { 2, NULL, "c" },    { 3, NULL, "e" },
					      { 4, NULL, "b" },        { 5, NULL, "1" },    { 0, "auto_reply", "true" },
					      { 0, "errcode", "406" }, { 72, NULL, "true" } };
	Startalk__ProtoMessage *envelope = encode_stanza(&context, stanza);
	Startalk__XmppMessage *message =
		startalk__xmpp_message__unpack(NULL, envelope->message.len, envelope->message.data);
	assert_non_null(message);
	assert_int_equal(envelope->signaltype, 132);
	assert_string_equal(envelope->realfrom, "rf");
	assert_string_equal(envelope->realto, "rt");
	assert_string_equal(envelope->originfrom, "of");
	assert_string_equal(envelope->originto, "ot");
	assert_string_equal(envelope->origintype, "oy");
	assert_string_equal(envelope->sendjid, "sj");
	assert_int_equal(message->receivedtime, 12345);
	assert_int_equal(message->body->n_headers, COUNT(wanted));
	for (size_t i = 0; i < COUNT(wanted); i++) {
		const Startalk__StringHeader *header = message->body->headers[i];
		assert_int_equal(header->has_definedkey ? header->definedkey : 0, wanted[i].number);
		assert_true(wanted[i].number || strcmp(header->key, wanted[i].key) == 0);
		assert_string_equal(header->value, wanted[i].value);
	}
	startalk__xmpp_message__free_unpacked(message, NULL);
	startalk__proto_message__free_unpacked(envelope, NULL);
	stk_stanza_unref(stanza);
}

static void client_type_is_read_by_name_by_number_and_from_the_body(void **state)
{
	(void)state;
	static const struct {
		const char *attrs, *body;
		int32_t type;
	} cases[] = {
		{ "client_type='ClientTypeMac'", "maType='4'", 1 },
		{ "client_type='5'", "", 5 },
		{ "", "maType='2'", 2 },
		{ "", "maType='7'", 3 },
		{ "client_type='9'", "maType='6'", 6 },
		{ "client_type='nonsense'", "", 3 },
	};
	struct codec_context context = context_of(CODEC_SERVER, FULL);
	for (size_t i = 0; i < COUNT(cases); i++) {
		char xml[256];
		snprintf(xml, sizeof(xml), "<message type='chat' %s><body id='m' %s>x</body></message>", cases[i].attrs,
			 cases[i].body);
		struct stk_stanza *stanza = stanza_of(xml);
		Startalk__ProtoMessage *envelope = encode_stanza(&context, stanza);
		Startalk__XmppMessage *message =
			startalk__xmpp_message__unpack(NULL, envelope->message.len, envelope->message.data);
		assert_int_equal(message->clienttype, cases[i].type);
		assert_int_equal(message->receivedtime, CLOCK_MS);
		startalk__xmpp_message__free_unpacked(message, NULL);
		startalk__proto_message__free_unpacked(envelope, NULL);
		stk_stanza_unref(stanza);
	}
}

static void messages_without_a_frame_are_not_sent(void **state)
{
	(void)state;
	assert_told("<message type='chat'/>", false);
	assert_told("<message type='unheard-of'><body id='m'>x</body></message>", false);
	assert_told("<message><body id='m'>x</body></message>", false);
	assert_told("<message type='typing'/>", true);
	assert_told("<message type='stat'/>", true);
}

static void ignored_signals_stand_for_nothing_from_clients(void **state)
{
	(void)state;
	static const int32_t ignored[] = { 3,  4,   5,   8,   9,   11,  12,  16,  20, 30, 50,
					   51, 101, 102, 108, 128, 140, 141, 142, 0,  -1, 777 };
	Startalk__XmppMessage message;
	startalk__xmpp_message__init(&message);
	message.messageid = text("m");
	for (size_t i = 0; i < COUNT(ignored); i++) {
		struct codec_context context = context_of(CODEC_CLIENT, NULL);
		struct buf frame = { 0 };
		struct stk_stanza *stanza;
		const char *why;
		frame_of_bytes(&frame, ignored[i], (const uint8_t *)"", 0);
		assert_int_equal(codec_decode(&context, buf_data(&frame), frame.len, &stanza, NULL, &why), 0);
		assert_null(stanza);
		buf_fini(&frame);
	}
}

/* ---- login, and what is never sent ---- */

static void one_missing_field_of_welcome_and_auth_is_the_servers_to_judge(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	Startalk__WelcomeMessage welcome;
	startalk__welcome_message__init(&welcome);
	welcome.domain = text("example.org");
	struct stk_stanza *stanza = decode_inner(&context, 100, &welcome.base, NULL, NULL);
	assert_string_equal(stk_stanza_to(stanza), "example.org");
	assert_null(stk_node_attr(stk_stanza_root(stanza), "version"));
	assert_null(stk_node_attr(stk_stanza_root(stanza), "user"));
	assert_null(stk_node_attr(stk_stanza_root(stanza), "sockmod"));
	stk_stanza_unref(stanza);

	Startalk__AuthMessage auth;
	startalk__auth_message__init(&auth);
	auth.mechanism = text("PLAIN");
	stanza = decode_inner(&context, 45, &auth.base, NULL, NULL);
	assert_string_equal(stk_node_text(stk_stanza_root(stanza)), "");
	assert_int_equal(strlen(stk_stanza_id(stanza)), 32);
	stk_stanza_unref(stanza);
}

static void each_side_sends_its_own_elements_only(void **state)
{
	(void)state;
	static const struct {
		const char *xml;
		enum codec_side side;
	} wrong[] = {
		{ "<starttls/>", CODEC_SERVER },
		{ "<auth mechanism='PLAIN'>x</auth>", CODEC_SERVER },
		{ "<proceed/>", CODEC_CLIENT },
		{ "<success/>", CODEC_CLIENT },
		{ "<failure reason='x'/>", CODEC_CLIENT },
		{ "<stream:end/>", CODEC_CLIENT },
		{ "<stream:end code='x'/>", CODEC_SERVER },
	};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct codec_context context = context_of(wrong[i].side, FULL);
		struct stk_stanza *stanza = stanza_of(wrong[i].xml);
		struct buf out = { 0 };
		assert_int_equal(codec_encode(&context, stanza, &out), -EINVAL);
		buf_fini(&out);
		stk_stanza_unref(stanza);
	}
}

static void text_that_is_not_utf8_is_never_sent(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_SERVER, FULL);
	static const char *const places[] = {
		"<message type='chat'><body id='m'/></message>",
		"<presence type='notify' data='x'/>",
		"<iq type='result' id='i'><key xmlns='urn:xmpp:key' value='k'/></iq>",
		"<iq type='get' id='i'><a xmlns='urn:a'/></iq>",
		"<stream:end code='222'/>",
		"<failure/>",
	};
	for (size_t i = 0; i < COUNT(places); i++) {
		struct stk_stanza *stanza = stanza_of(places[i]);
		struct stk_node *root = stanza_root(stanza),
				*child = (struct stk_node *)(uintptr_t)stk_stanza_payload(stanza);
		struct buf out = { 0 };
		stk_node_set(root, i == 1 ? "data" : "reason", "\xff");
		stk_node_set(child, i == 2 ? "value" : "x", "\xff");
		stk_node_set_text(child, "\xc3(");
		assert_int_equal(codec_encode(&context, stanza, &out), -EILSEQ);
		assert_int_equal(out.len, 0);
		buf_fini(&out);
		stk_stanza_unref(stanza);
	}
}

static void stanza_of_two_mebibytes_is_not_sent(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_SERVER, FULL);
	size_t n = 4 * 1024 * 1024;
	char *noise = malloc(n + 1);
	assert_non_null(noise);
	uint32_t seed = 7;
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		noise[i] = (char)(' ' + (seed >> 24) % 90);
	}
	noise[n] = '\0';
	struct stk_stanza *stanza = stk_stanza_new(STK_MESSAGE, "chat", NULL);
	stk_node_set_text(stk_node_add(stk_stanza_edit(stanza), "body", NULL), noise);
	struct buf out = { 0 };
	assert_int_equal(codec_encode(&context, stanza, &out), -EMSGSIZE);
	assert_int_equal(out.len, 0);
	buf_fini(&out);
	stk_stanza_unref(stanza);
	free(noise);
}

static int fini(void **state)
{
	(void)state;
	frame_thread_fini();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(presences_go_by_number_and_by_key),
		cmocka_unit_test(presences_without_a_frame_are_not_sent),
		cmocka_unit_test(joined_user_is_named_by_its_real_jid_without_a_jid),
		cmocka_unit_test(notice_needs_a_number_as_category),
		cmocka_unit_test(message_with_nothing_but_text_is_completed),
		cmocka_unit_test(every_header_of_a_message_has_its_place),
		cmocka_unit_test(clients_cannot_claim_what_is_the_servers_to_say),
		cmocka_unit_test(headers_of_a_message_are_sent_in_order),
		cmocka_unit_test(client_type_is_read_by_name_by_number_and_from_the_body),
		cmocka_unit_test(messages_without_a_frame_are_not_sent),
		cmocka_unit_test(ignored_signals_stand_for_nothing_from_clients),
		cmocka_unit_test(one_missing_field_of_welcome_and_auth_is_the_servers_to_judge),
		cmocka_unit_test(each_side_sends_its_own_elements_only),
		cmocka_unit_test(text_that_is_not_utf8_is_never_sent),
		cmocka_unit_test(stanza_of_two_mebibytes_is_not_sent),
	};
	return cmocka_run_group_tests(tests, NULL, fini);
}
