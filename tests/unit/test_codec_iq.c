/* SPDX-License-Identifier: MIT */
/* IQs beyond the recorded frames: every row of the tables by number and by key, the general form both ways, results
 * with parts missing, errors. */

#include "proto/frame.h"
#include "tests/unit/codec_help.h"

#define M "http://jabber.org/protocol/"

/* ---- IQs of clients ---- */

static const struct iq_case {
	int32_t number;
	const char *key, *type, *to, *value, *payload;
	struct head heads[HEADS_MAX];
} iq_cases[] = {
	{ 1,
	  "BIND",
	  "set",
	  NULL,
	  "V_P[PC]_x",
	  "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>V_P[PC]_x</resource></bind>",
	  { { 0 } } },
	{ 2, "CREATE_MUC", "set", ROOM, ROOM, "<query xmlns='" M "create_muc'/>", { { 0 } } },
	{ 3, "MUC_CREATE", "set", ROOM, NULL, "<query xmlns='" M "create_muc'/>", { { 0 } } },
	{ 5, "GET_MUC_USER", "get", ROOM, NULL, "<query xmlns='" M "muc#register'/>", { { 0 } } },
	{ 6, "SET_MUC_USER", "set", ROOM, NULL, "<query xmlns='" M "muc#register'/>", { { 0 } } },
	{ 7, "DEL_MUC_USER", "set", ROOM, NULL, "<query xmlns='" M "muc#del_register'/>", { { 0 } } },
	{ 8,
	  "ADD_USER_SUBSCRIBE",
	  "set",
	  ROOM,
	  NULL,
	  "<query xmlns='" M "muc#muc_user_subscribe'><subscribe action='add'/></query>",
	  { { 0 } } },
	{ 9,
	  "DEL_USER_SUBSCRIBE",
	  "set",
	  ROOM,
	  NULL,
	  "<query xmlns='" M "muc#muc_user_subscribe'><subscribe action='delete'/></query>",
	  { { 0 } } },
	{ 10, "GET_USER_SUBSCRIBE", "get", ROOM, NULL, "<query xmlns='" M "muc#muc_user_subscribe'/>", { { 0 } } },
	{ 11,
	  "GET_USER_OPT",
	  "get",
	  NULL,
	  "bob",
	  "<get_verify_friend_mode xmlns='jabber:iq:verify_friend_mode' jid='bob'/>",
	  { { 0 } } },
	{ 12,
	  "SET_USER_OPT",
	  "set",
	  NULL,
	  NULL,
	  "<set_verify_friend_mode xmlns='jabber:iq:verify_friend_mode' mode='1' question='q' answer='a'/>",
	  { { 0, "answer", "a" }, { 76, NULL, "1" }, { 0, "question", "q" }, { 0, "other", "dropped" } } },
	{ 13,
	  "SET_USER_SUBSCRIBE_V2",
	  "set",
	  ROOM,
	  "2",
	  "<query xmlns='" M "muc#muc_user_subscribe_v2'><subscribe action='2'/></query>",
	  { { 0 } } },
	{ 14,
	  "GET_USER_SUBSCRIBE_V2",
	  "get",
	  ROOM,
	  NULL,
	  "<query xmlns='" M "muc#muc_user_subscribe_v2'/>",
	  { { 0 } } },
	{ 16, "GET_USER_FRIEND", "get", NULL, NULL, "<get_user_friends xmlns='jabber:x:get_friend'/>", { { 0 } } },
	{ 18,
	  "DEL_USER_FRIEND",
	  "set",
	  NULL,
	  NULL,
	  "<delete_friend xmlns='jabber:x:delete_friend' jid='bob' domain='d' mode='1'/>",
	  { { 7, NULL, "bob" }, { 0, "domain", "d" }, { 76, NULL, "1" } } },
	{ 20, "GET_USER_KEY", "get", NULL, NULL, "<key xmlns='urn:xmpp:key'/>", { { 0 } } },
	{ 28,
	  "SET_ADMIN",
	  "set",
	  ROOM,
	  NULL,
	  "<query xmlns='" M
	  "muc#admin'><item xmlns='jabber:x:mask_user' affiliation='admin' nick='b' real_jid='b@d'/></query>",
	  { { 0, "affiliation", "admin" }, { 0, "nick", "b" }, { 0, "real_jid", "b@d" } } },
	{ 30,
	  "SET_MEMBER",
	  "set",
	  ROOM,
	  NULL,
	  "<query xmlns='" M "muc#admin'><item nick='b' real_jid='b@d' role='none' affiliation='none'/></query>",
	  { { 12, NULL, "b" }, { 8, NULL, "b@d" }, { 36, NULL, "none" }, { 28, NULL, "none" } } },
	{ 32,
	  "CANCEL_MEMBER",
	  "set",
	  ROOM,
	  NULL,
	  "<query xmlns='" M "muc#admin'><item real_jid='b@d' nick='b' role='none'/></query>",
	  { { 8, NULL, "b@d" }, { 12, NULL, "b" }, { 36, NULL, "none" } } },
	{ 36, "USER_MUCS", "get", NULL, NULL, "<query xmlns='" M "muc#user_mucs'/>", { { 0 } } },
	{ 40, "DESTROY_MUC", "set", ROOM, NULL, "<query xmlns='" M "muc#owner'><destroy/></query>", { { 0 } } },
	{ 50, "PING", "get", NULL, NULL, "<ping xmlns='urn:xmpp:ping'/>", { { 0 } } },
	{ 100, "GET_FORBIDDEN_WORDS", "get", ROOM, NULL, "<query xmlns='" M "muc#muc_forbidden_words'/>", { { 0 } } },
	{ 101,
	  "SET_FORBIDDEN_WORDS",
	  "set",
	  ROOM,
	  NULL,
	  "<query xmlns='" M "muc#muc_forbidden_words' forbidden_words='true'/>",
	  { { 0, "forbidden_words", "true" } } },
	/* numbers without a stanza of their own */
	{ 17, "GET_REQUEST", "get", NULL, NULL, "<query xmlns='startalk:iq:GET_REQUEST'/>", { { 0 } } },
	{ 22, "GET_USER_MASK", "get", NULL, NULL, "<query xmlns='startalk:iq:GET_USER_MASK'/>", { { 0 } } },
	{ 24,
	  "SET_USER_MASK",
	  "get",
	  NULL,
	  NULL,
	  "<query xmlns='startalk:iq:SET_USER_MASK' jid='b@d'/>",
	  { { 7, NULL, "b@d" } } },
	{ 26, "CANCEL_USER_MASK", "get", NULL, NULL, "<query xmlns='startalk:iq:CANCEL_USER_MASK'/>", { { 0 } } },
	{ 52, "ADD_PUSH", "get", NULL, "token", "<query xmlns='startalk:iq:ADD_PUSH' value='token'/>", { { 0 } } },
	{ 60, "CANCEL_PUSH", "get", NULL, NULL, "<query xmlns='startalk:iq:CANCEL_PUSH'/>", { { 0 } } },
	{ 92, "GET_VUSER", "get", NULL, NULL, "<query xmlns='startalk:iq:GET_VUSER'/>", { { 0 } } },
	{ 94, "GET_VUSER_ROLE", "get", NULL, NULL, "<query xmlns='startalk:iq:GET_VUSER_ROLE'/>", { { 0 } } },
	{ 96, "START_SESSION", "get", NULL, NULL, "<query xmlns='startalk:iq:START_SESSION'/>", { { 0 } } },
	{ 98, "END_SESSION", "get", NULL, NULL, "<query xmlns='startalk:iq:END_SESSION'/>", { { 0 } } },
	{ 99, "SESSION_EVENT", "get", NULL, NULL, "<query xmlns='startalk:iq:SESSION_EVENT'/>", { { 0 } } },
};

static void check_iq_case(const struct iq_case *test, bool by_number, bool by_key, const char *key)
{
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	struct made_body body;
	Startalk__IQMessage iq;
	char xml[1024];
	startalk__iqmessage__init(&iq);
	iq.has_definedkey = by_number;
	iq.definedkey = test->number;
	iq.key = by_key ? text(key) : NULL;
	iq.value = text(test->value);
	iq.messageid = text("i");
	iq.body = test->heads[0].value ? make_body(&body, test->heads, NULL) : NULL;
	snprintf(xml, sizeof(xml), "<iq id='i' type='%s'%s%s%s>%s</iq>", test->type, test->to ? " to='" : "",
		 test->to ? test->to : "", test->to ? "'" : "", test->payload);
	struct stk_stanza *stanza = decode_inner(&context, 2, &iq.base, FULL, test->to);
	assert_stanza(stanza, xml);
	assert_round_trip(CODEC_CLIENT, FULL, stanza);
	stk_stanza_unref(stanza);
}

static void iq_rows_go_by_number_by_key_and_by_both(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(iq_cases); i++) {
		check_iq_case(&iq_cases[i], true, false, NULL);
		check_iq_case(&iq_cases[i], false, true, iq_cases[i].key);
		check_iq_case(&iq_cases[i], true, true, iq_cases[i].key);
		check_iq_case(&iq_cases[i], true, true, ""); /* as some libraries leave it */
	}
}

static void number_decides_where_it_contradicts_the_key(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(iq_cases); i++) {
		check_iq_case(&iq_cases[i], true, true, iq_cases[(i + 1) % COUNT(iq_cases)].key);
	}
}

static struct stk_stanza *decode_iq(const char *key, int32_t number, const char *xmlns)
{
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	Startalk__IQMessage iq;
	startalk__iqmessage__init(&iq);
	iq.has_definedkey = number != 0;
	iq.definedkey = number;
	iq.key = text(key);
	iq.namespace_ = text(xmlns);
	iq.messageid = text("i");
	return decode_inner(&context, 2, &iq.base, FULL, NULL);
}

static void assert_iq(const char *key, int32_t number, const char *xmlns, const char *payload)
{
	char xml[512];
	struct stk_stanza *stanza = decode_iq(key, number, xmlns);
	snprintf(xml, sizeof(xml), "<iq id='i' type='get'>%s</iq>", payload);
	assert_stanza(stanza, xml);
	assert_round_trip(CODEC_CLIENT, FULL, stanza);
	stk_stanza_unref(stanza);
}

static void keys_that_no_table_knows_are_a_namespace(void **state)
{
	(void)state;
	assert_iq("MY_KEY", 0, NULL, "<query xmlns='startalk:iq:MY_KEY'/>");
	assert_iq("ping", 0, NULL, "<query xmlns='startalk:iq:ping'/>");
	assert_iq("any text <&> 键", 0, NULL, "<query xmlns='startalk:iq:any text &lt;&amp;&gt; 键'/>");
	assert_iq(NULL, 55, NULL, "<query xmlns='startalk:iq:55'/>");
	assert_iq(NULL, -7, NULL, "<query xmlns='startalk:iq:-7'/>");
	assert_iq("MY_KEY", 55, NULL, "<query xmlns='startalk:iq:MY_KEY'/>");
	assert_iq("PING", 55, NULL, "<ping xmlns='urn:xmpp:ping'/>");
	assert_iq("50", 0, NULL, "<query xmlns='startalk:iq:50'/>"); /* digits as text are no number */
	assert_iq("055", 0, NULL, "<query xmlns='startalk:iq:055'/>");
	assert_iq(NULL, 0, NULL, "<query xmlns='startalk:iq:'/>");
}

static void namespace_of_a_module_is_its_own(void **state)
{
	(void)state;
	assert_iq("vote", 0, "urn:example:poll", "<vote xmlns='urn:example:poll'/>");
	assert_iq(NULL, 0, "urn:example:poll", "<query xmlns='urn:example:poll'/>");
	assert_iq("PING", 0, "urn:example:poll", "<PING xmlns='urn:example:poll'/>");
	assert_iq("PING", 0, "urn:xmpp:ping", "<ping xmlns='urn:xmpp:ping'/>");
	assert_iq("PING", 50, "urn:example:poll", "<ping xmlns='urn:xmpp:ping'/>");
	assert_iq("not a name", 0, "urn:example:poll", "<query xmlns='startalk:iq:not a name'/>");
}

static void an_answer_of_a_client_stands_for_one(void **state)
{
	(void)state;
	struct codec_context client = context_of(CODEC_CLIENT, NULL);
	Startalk__IQMessage iq;
	startalk__iqmessage__init(&iq);
	iq.has_definedkey = true;
	iq.definedkey = 80;
	iq.value = text("ping");
	assert_null(decode_inner(&client, 2, &iq.base, NULL, NULL)); /* without an id it answers nothing */
	iq.messageid = text("i");
	struct stk_stanza *result = decode_inner(&client, 2, &iq.base, NULL, NULL);
	assert_string_equal(stk_stanza_type(result), "result");
	assert_string_equal(stk_stanza_id(result), "i");
	assert_null(stk_stanza_payload(result));
	assert_null(stk_stanza_from(result)); /* who it is from is for the session to know */
	stk_stanza_unref(result);
	iq.definedkey = 90;
	result = decode_inner(&client, 2, &iq.base, NULL, NULL);
	assert_string_equal(stk_stanza_type(result), "error");
	stk_stanza_unref(result);
}

static void iq_without_id_gets_one_that_differs_each_time(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	Startalk__IQMessage iq;
	startalk__iqmessage__init(&iq);
	iq.key = text("PING");
	struct stk_stanza *first = decode_inner(&context, 2, &iq.base, NULL, NULL);
	iq.messageid = text("");
	struct stk_stanza *second = decode_inner(&context, 2, &iq.base, NULL, NULL);
	assert_int_equal(strlen(stk_stanza_id(first)), 32);
	assert_int_equal(strlen(stk_stanza_id(second)), 32);
	assert_string_not_equal(stk_stanza_id(first), stk_stanza_id(second));
	stk_stanza_unref(first);
	stk_stanza_unref(second);
}

static void room_of_create_muc_is_the_envelopes_to_first(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	Startalk__IQMessage iq;
	startalk__iqmessage__init(&iq);
	iq.messageid = text("i");
	iq.has_definedkey = true;
	iq.definedkey = 2;
	iq.value = text("other@conf.example.org");
	struct stk_stanza *stanza = decode_inner(&context, 2, &iq.base, NULL, ROOM);
	assert_string_equal(stk_stanza_to(stanza), ROOM);
	stk_stanza_unref(stanza);
	stanza = decode_inner(&context, 2, &iq.base, NULL, "");
	assert_string_equal(stk_stanza_to(stanza), "other@conf.example.org");
	stk_stanza_unref(stanza);
}

static void friend_mode_is_asked_for_a_user_part(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	Startalk__IQMessage iq;
	startalk__iqmessage__init(&iq);
	iq.messageid = text("i");
	iq.key = text("GET_USER_OPT");
	iq.value = text("bob@example.org/x@y");
	struct stk_stanza *stanza = decode_inner(&context, 2, &iq.base, NULL, NULL);
	assert_string_equal(stk_node_attr(stk_stanza_payload(stanza), "jid"), "bob");
	stk_stanza_unref(stanza);
}

static void headers_cannot_rewrite_the_stanza(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	const struct head heads[] = { { 0, "from", "mallory@example.org" },
				      { 0, "to", "x" },
				      { 30, NULL, "notify" },
				      { 0, "xmlns", "evil" },
				      { 0, "a b", "no name" },
				      { 22, NULL, "m" },
				      { 0 } };
	struct made_body body;
	Startalk__PresenceMessage presence;
	startalk__presence_message__init(&presence);
	presence.has_definedkey = true;
	presence.definedkey = 2;
	presence.body = make_body(&body, heads, NULL);
	struct stk_stanza *stanza = decode_inner(&context, 1, &presence.base, ALICE, "bob@example.org");
	assert_stanza(
		stanza,
		"<presence xmlns='jabber:x:verify_friend' to='bob@example.org' type='verify_friend' method='m'/>");
	stk_stanza_unref(stanza);
}

static void last_header_wins_and_unknown_numbers_survive(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	const struct head heads[] = { { 12, NULL, "one" },   { 0, "nick", "two" },
				      { 999, NULL, "n" },    { 999, "nick", "three" },
				      { 12, "jid", "four" }, { 0, "", "nameless" },
				      { -7, NULL, "m" },     { 0 } };
	struct made_body body;
	Startalk__IQMessage iq;
	startalk__iqmessage__init(&iq);
	iq.messageid = text("i");
	iq.key = text("SET_MEMBER");
	iq.body = make_body(&body, heads, "item");
	struct stk_stanza *stanza = decode_inner(&context, 2, &iq.base, NULL, NULL);
	assert_stanza(stanza, "<iq id='i' type='set'><query xmlns='" M
			      "muc#admin'><item nick='four' _999='n' _-7='m'/></query></iq>");
	assert_round_trip(CODEC_CLIENT, NULL, stanza);
	stk_stanza_unref(stanza);
}

/* ---- the general form ---- */

static const char *const general[] = {
	"<vote xmlns='urn:example:poll' value='7' nick='n' choice='a'>yes &amp; no</vote>",
	"<query xmlns='urn:example:poll'/>",
	"<poll xmlns='urn:example:poll'><option jid='a@d' weight='1'>first</option><option/><o xmlns='urn:o'/></poll>",
	"<tree xmlns='urn:t'><a><b k='v'><c>deep</c><c/></b></a><a/></tree>",
	"<plain/>",
	"<query nick='n'>inherits</query>",
	"<ping xmlns='urn:xmpp:ping' extra='1'/>",
	"<empty xmlns='urn:e' value='' nick=''/>",
	"<query xmlns='startalk:iq:MY_KEY' value='v' nick='n'>t<x/></query>",
};

static void general_form_survives_both_ways_on_both_sides(void **state)
{
	(void)state;
	static const char *const types[] = { "get", "set", "result" };
	for (size_t i = 0; i < COUNT(general) * COUNT(types); i++) {
		const char *type = types[i % COUNT(types)], *payload = general[i / COUNT(types)];
		char xml[1024];
		snprintf(xml, sizeof(xml), "<iq from='" ALICE "' to='" FULL "' id='i' type='%s'>%s</iq>", type,
			 payload);
		struct stk_stanza *stanza = stanza_of(xml);
		assert_round_trip(CODEC_SERVER, FULL, stanza);
		stk_stanza_unref(stanza);
		if (strcmp(type, "result") == 0) {
			continue;
		}
		snprintf(xml, sizeof(xml), "<iq to='" FULL "' id='i' type='%s'>%s</iq>", type,
			 payload); /* from: the envelope's */
		stanza = stanza_of(xml);
		assert_round_trip(CODEC_CLIENT, FULL, stanza);
		stk_stanza_unref(stanza);
	}
}

static Startalk__IQMessage *unpack_iq(const Startalk__ProtoMessage *envelope)
{
	assert_int_equal(envelope->signaltype, 2);
	Startalk__IQMessage *iq = startalk__iqmessage__unpack(NULL, envelope->message.len, envelope->message.data);
	assert_non_null(iq);
	return iq;
}

static void request_of_the_server_has_key_and_namespace(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_SERVER, FULL);
	struct stk_stanza *stanza =
		stanza_of("<iq id='i' type='set'><vote xmlns='urn:example:poll' value='7' nick='n'>yes</vote></iq>");
	Startalk__ProtoMessage *envelope = encode_stanza(&context, stanza);
	Startalk__IQMessage *iq = unpack_iq(envelope);
	assert_string_equal(envelope->from, FULL);
	assert_string_equal(envelope->to, FULL);
	assert_string_equal(iq->namespace_, "urn:example:poll");
	assert_string_equal(iq->key, "vote");
	assert_string_equal(iq->value, "7");
	assert_false(iq->has_definedkey);
	assert_string_equal(iq->body->value, "yes");
	assert_int_equal(iq->body->n_headers, 2);
	assert_int_equal(iq->body->headers[0]->definedkey, 30);
	assert_string_equal(iq->body->headers[0]->value, "set");
	assert_int_equal(iq->body->headers[1]->definedkey, 12);
	assert_int_equal(iq->receivedtime, CLOCK_MS / 1000);
	startalk__iqmessage__free_unpacked(iq, NULL);
	startalk__proto_message__free_unpacked(envelope, NULL);
	stk_stanza_unref(stanza);
}

static void result_in_general_form_names_its_element(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_SERVER, FULL);
	struct stk_stanza *stanza = stanza_of("<iq id='i' type='result'><poll xmlns='urn:example:poll' "
					      "value='v'><option jid='a'>one</option></poll></iq>");
	Startalk__ProtoMessage *envelope = encode_stanza(&context, stanza);
	Startalk__IQMessage *iq = unpack_iq(envelope);
	assert_int_equal(iq->definedkey, 80);
	assert_null(iq->key);
	assert_string_equal(iq->value, "poll");
	assert_string_equal(iq->namespace_, "urn:example:poll");
	assert_int_equal(iq->body->headers[0]->definedkey, 66);
	assert_int_equal(iq->n_bodys, 1);
	assert_string_equal(iq->bodys[0]->value, "option");
	assert_int_equal(iq->bodys[0]->headers[0]->definedkey, 7);
	assert_int_equal(iq->bodys[0]->headers[1]->definedkey, 50);
	assert_string_equal(iq->bodys[0]->headers[1]->value, "one");
	startalk__iqmessage__free_unpacked(iq, NULL);
	startalk__proto_message__free_unpacked(envelope, NULL);
	stk_stanza_unref(stanza);
}

static void what_the_general_form_cannot_say_is_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"<iq id='i' type='get'><a xmlns='urn:a' type='x'/></iq>",
		"<iq id='i' type='get'><a xmlns='urn:a'><b cdata='x'/></a></iq>",
		"<iq id='i' type='get'><a:b xmlns='urn:a'/></iq>",
		"<iq id='i' type='get'/>",
		"<iq id='i'/>",
		"<iq id='i' type='other'><a/></iq>",
		"<iq id='i' "
		"type='get'><a><a><a><a><a><a><a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a></a></a></a></a></"
		"a></a></iq>",
	};
	for (size_t i = 0; i < COUNT(bad); i++) {
		for (int side = CODEC_CLIENT; side <= CODEC_SERVER; side++) {
			struct codec_context context = context_of((enum codec_side)side, FULL);
			struct stk_stanza *stanza = stanza_of(bad[i]);
			struct buf out = { 0 };
			assert_int_equal(codec_encode(&context, stanza, &out), -EINVAL);
			assert_int_equal(out.len, 0);
			buf_fini(&out);
			stk_stanza_unref(stanza);
		}
	}
}

/* ---- results, errors ---- */

struct result_case {
	const char *payload, *value;
	struct head heads[3];
	const char *body; /* NULL: none */
};

static const struct result_case result_cases[] = {
	{ "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>a@b/c</jid></bind>",
	  "bind",
	  { { 52, NULL, "1614599258" } },
	  "a@b/c" },
	{ "<query xmlns='" M "create_muc'/>", "create_muc", { { 0 } }, NULL },
	{ "<query xmlns='" M "muc#user_mucs'/>", "user_mucs", { { 0 } }, NULL },
	{ "<query xmlns='" M "muc#muc_forbidden_words'/>",
	  "forbidden_words",
	  { { 32, NULL, "failed" } },
	  "forbidden_words" },
	{ "<query xmlns='" M "muc#muc_forbidden_words'><forbidden_words/></query>",
	  "forbidden_words",
	  { { 32, NULL, "failed" } },
	  "forbidden_words" },
	{ "<query xmlns='" M "muc#muc_user_subscribe'><subscribe/></query>",
	  "subscribe",
	  { { 40, NULL, "false" } },
	  "subscribe" },
	{ "<query xmlns='" M "muc#muc_user_subscribe_v2'><delete_subscribe/></query>",
	  "subscribe",
	  { { 40, NULL, "false" } },
	  "delete_subscribe" },
	{ "<set_verify_friend_mode xmlns='jabber:iq:verify_friend_mode'/>",
	  "set_verify_friend_mode",
	  { { 32, NULL, "false" } },
	  "set_verify_friend_mode" },
	{ "<delete_friend xmlns='jabber:x:delete_friend'/>", "user_del_friend", { { 0 } }, "del_user_friend" },
	{ "<key xmlns='urn:xmpp:key'/>", "get_key", { { 0, "time_key", "1614599258" } }, "get_key" },
	{ "<start_session xmlns='jabber:x:virtual_user' result='no'/>",
	  "start_session",
	  { { 0, "start_session", "success" } },
	  "start_session" },
	{ "<query xmlns='" M "muc#admin'><item/></query>", "muc_admin", { { 0 } }, NULL },
};

static void absent_parts_of_results_have_their_defaults(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_SERVER, FULL);
	for (size_t i = 0; i < COUNT(result_cases); i++) {
		const struct result_case *test = &result_cases[i];
		char xml[512];
		snprintf(xml, sizeof(xml), "<iq type='result' id='i'>%s</iq>", test->payload);
		struct stk_stanza *stanza = stanza_of(xml);
		Startalk__ProtoMessage *envelope = encode_stanza(&context, stanza);
		Startalk__IQMessage *iq = unpack_iq(envelope);
		assert_string_equal(iq->value, test->value);
		assert_int_equal(iq->definedkey, 80);
		assert_null(iq->namespace_);
		assert_null(iq->key);
		assert_int_equal(iq->n_bodys, 0);
		assert_true(!iq->body == !test->body);
		size_t n = 0;
		while (n < COUNT(test->heads) && test->heads[n].value) {
			n++;
		}
		assert_int_equal(iq->body ? iq->body->n_headers : 0, n);
		for (size_t j = 0; j < n; j++) {
			const Startalk__StringHeader *header = iq->body->headers[j];
			assert_int_equal(header->has_definedkey ? header->definedkey : 0, test->heads[j].number);
			assert_string_equal(header->value, test->heads[j].value);
		}
		if (test->body) {
			assert_string_equal(iq->body->value, test->body);
		}
		startalk__iqmessage__free_unpacked(iq, NULL);
		startalk__proto_message__free_unpacked(envelope, NULL);
		stk_stanza_unref(stanza);
	}
}

static void subscription_without_a_known_child_takes_the_general_form(void **state)
{
	(void)state;
	struct stk_stanza *stanza = stanza_of("<iq type='result' id='i' from='" ROOM "' to='" FULL "'><query xmlns='" M
					      "muc#muc_user_subscribe'><other status='1'/></query></iq>");
	assert_round_trip(CODEC_SERVER, FULL, stanza);
	stk_stanza_unref(stanza);
}

static void errors_carry_code_and_text(void **state)
{
	(void)state;
	struct stk_stanza *stanza =
		stanza_of("<iq type='error' id='i' from='" ALICE "' to='" FULL "'><error code='503'><text "
			  "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no module</text></error></iq>");
	struct codec_context context = context_of(CODEC_SERVER, FULL);
	Startalk__ProtoMessage *envelope = encode_stanza(&context, stanza);
	Startalk__IQMessage *iq = unpack_iq(envelope);
	assert_int_equal(iq->definedkey, 90);
	assert_null(iq->value);
	assert_int_equal(iq->body->n_headers, 2);
	assert_int_equal(iq->body->headers[0]->definedkey, 42);
	assert_string_equal(iq->body->headers[0]->value, "503");
	assert_string_equal(iq->body->headers[1]->key, "data");
	assert_string_equal(iq->body->headers[1]->value, "no module");
	assert_string_equal(iq->body->value, "error_info");
	startalk__iqmessage__free_unpacked(iq, NULL);
	startalk__proto_message__free_unpacked(envelope, NULL);
	assert_round_trip(CODEC_SERVER, FULL, stanza);
	stk_stanza_unref(stanza);

	stanza = stanza_of("<iq type='error' id='i'><error type='cancel'/></iq>");
	envelope = encode_stanza(&context, stanza);
	iq = unpack_iq(envelope);
	assert_null(iq->body);
	startalk__iqmessage__free_unpacked(iq, NULL);
	startalk__proto_message__free_unpacked(envelope, NULL);
	stk_stanza_unref(stanza);
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
		cmocka_unit_test(iq_rows_go_by_number_by_key_and_by_both),
		cmocka_unit_test(number_decides_where_it_contradicts_the_key),
		cmocka_unit_test(keys_that_no_table_knows_are_a_namespace),
		cmocka_unit_test(namespace_of_a_module_is_its_own),
		cmocka_unit_test(an_answer_of_a_client_stands_for_one),
		cmocka_unit_test(iq_without_id_gets_one_that_differs_each_time),
		cmocka_unit_test(room_of_create_muc_is_the_envelopes_to_first),
		cmocka_unit_test(friend_mode_is_asked_for_a_user_part),
		cmocka_unit_test(headers_cannot_rewrite_the_stanza),
		cmocka_unit_test(last_header_wins_and_unknown_numbers_survive),
		cmocka_unit_test(general_form_survives_both_ways_on_both_sides),
		cmocka_unit_test(request_of_the_server_has_key_and_namespace),
		cmocka_unit_test(result_in_general_form_names_its_element),
		cmocka_unit_test(what_the_general_form_cannot_say_is_refused),
		cmocka_unit_test(absent_parts_of_results_have_their_defaults),
		cmocka_unit_test(subscription_without_a_known_child_takes_the_general_form),
		cmocka_unit_test(errors_carry_code_and_text),
	};
	return cmocka_run_group_tests(tests, NULL, fini);
}
