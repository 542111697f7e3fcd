/* SPDX-License-Identifier: MIT */
/* What a message carries that no table knows: headers by any name and number, content types, text of any script; and
 * the bytes that it is written as. */

#include <inttypes.h>

#include "core/arena.h"
#include "proto/frame.h"
#include "tests/unit/codec_help.h"

#define PLAIN                                                         \
	"<message from='" ALICE "' to='bob@example.org' type='chat' " \
	"client_type='ClientTypePC' client_ver='0'><body id='m' msgType='0'"

static struct stk_stanza *decode_side(enum codec_side side, const Startalk__MessageBody *body)
{
	struct codec_context context = context_of(side, NULL);
	Startalk__XmppMessage message;
	startalk__xmpp_message__init(&message);
	message.messageid = text("m");
	message.body = (Startalk__MessageBody *)(uintptr_t)body;
	return decode_inner(&context, 6, &message.base, ALICE, "bob@example.org");
}

static struct stk_stanza *decode_heads(enum codec_side side, const struct head *heads)
{
	struct made_body body;
	return decode_side(side, make_body(&body, heads, "hi"));
}

/* The headers of STANZA's frame from SIDE are HEADS, the last of which has no value. */
static void assert_sent(enum codec_side side, const struct stk_stanza *stanza, const struct head *heads)
{
	struct codec_context context = context_of(side, FULL);
	Startalk__ProtoMessage *envelope = encode_stanza(&context, stanza);
	assert_non_null(envelope);
	Startalk__XmppMessage *message =
		startalk__xmpp_message__unpack(NULL, envelope->message.len, envelope->message.data);
	assert_non_null(message);
	size_t n = 0;
	for (; heads[n].value; n++) {
		assert_true(n < message->body->n_headers);
		const Startalk__StringHeader *header = message->body->headers[n];
		assert_int_equal(header->has_definedkey, heads[n].number != 0);
		assert_int_equal(header->definedkey, heads[n].number);
		assert_string_equal(header->key ? header->key : "", heads[n].key ? heads[n].key : "");
		assert_string_equal(header->value, heads[n].value);
	}
	assert_int_equal(message->body->n_headers, n);
	startalk__xmpp_message__free_unpacked(message, NULL);
	startalk__proto_message__free_unpacked(envelope, NULL);
}

/* ---- headers ---- */

static void headers_that_no_table_knows_are_carried(void **state)
{
	(void)state;
	const struct head heads[] = { { 0, "x-trace", "1" }, { 200, NULL, "2" },
				      { 3, NULL, "e" },      { 16, NULL, "t" },
				      { 0, "nick", "n" },    { -5, NULL, "3" },
				      { 0, "标题", "值" },   { 0, "a b:c<'&", "<'&" },
				      { 0, "empty", "" },    { 0 } };
	const struct head sent[] = { { 3, NULL, "e" },    { 0, "x-trace", "1" },
				     { 200, NULL, "2" },  { 16, NULL, "t" },
				     { 12, NULL, "n" },   { -5, NULL, "3" },
				     { 0, "标题", "值" }, { 0, "a b:c<'&", "<'&" },
				     { 0, "empty", "" },  { 0 } };
	const struct head sent_by_server[] = { { 3, NULL, "e" },
					       { 0, "errcode", "0" },
					       { 0, "x-trace", "1" },
					       { 200, NULL, "2" },
					       { 16, NULL, "t" },
					       { 12, NULL, "n" },
					       { -5, NULL, "3" },
					       { 0, "标题", "值" },
					       { 0, "a b:c<'&", "<'&" },
					       { 0, "empty", "" },
					       { 0 } };
	for (int side = CODEC_CLIENT; side <= CODEC_SERVER; side++) {
		struct stk_stanza *stanza = decode_heads((enum codec_side)side, heads);
		assert_stanza(stanza, PLAIN " extendInfo='e'>hi</body>"
					    "<header name='x-trace' value='1'/><header name='_200' value='2'/>"
					    "<header name='title' value='t'/><header name='nick' value='n'/>"
					    "<header name='_-5' value='3'/><header name='标题' value='值'/>"
					    "<header name='a b:c&lt;&apos;&amp;' value='&lt;&apos;&amp;'/>"
					    "<header name='empty' value=''/></message>");
		assert_round_trip(CODEC_CLIENT, ALICE, stanza);
		assert_sent(CODEC_CLIENT, stanza, sent);
		assert_sent(CODEC_SERVER, stanza, sent_by_server);
		stk_stanza_unref(stanza);
	}
}

static void last_header_of_a_name_wins_where_the_first_one_stood(void **state)
{
	(void)state;
	const struct head heads[] = { { 0, "a", "1" },
				      { 16, NULL, "1" },
				      { 0, "b", "1" },
				      { 0, "a", "2" },
				      { 0, "title", "2" },
				      { 200, NULL, "1" },
				      { 0, "a", "3" },
				      { 0, "_200", "2" },
				      { 4, NULL, "1" },
				      { 0, "backupinfo", "2" },
				      { 0 } };
	struct stk_stanza *stanza = decode_heads(CODEC_CLIENT, heads);
	assert_stanza(stanza, PLAIN " backupinfo='2'>hi</body>"
				    "<header name='a' value='3'/><header name='title' value='2'/>"
				    "<header name='b' value='1'/><header name='_200' value='2'/></message>");
	stk_stanza_unref(stanza);

	const struct head sent[] = { { 0, "errcode", "0" }, { 0, "a", "2" }, { 16, NULL, "1" }, { 0 } };
	stanza = stanza_of("<message type='chat'><header name='a' value='1'/><body id='m'>x</body>"
			   "<header name='title' value='1'/><header name='a' value='2'/></message>");
	assert_sent(CODEC_SERVER, stanza, sent);
	stk_stanza_unref(stanza);
}

static void header_by_any_number_goes_out_as_it_came(void **state)
{
	(void)state;
	/* every number that has no attribute; 79 and others are nobody's */
	static const int32_t numbers[] = {
		INT32_MIN, -200, -72, -1, 6, 7, 12, 16, 24, 50, 71, 78, 79, 1000, INT32_MAX
	};
	for (size_t i = 0; i < COUNT(numbers); i++) {
		const struct head heads[] = { { numbers[i], NULL, "v" }, { 0 } };
		struct stk_stanza *stanza = decode_heads(CODEC_CLIENT, heads);
		assert_string_equal(stk_node_name(stk_node_next(stk_stanza_payload(stanza))), "header");
		assert_sent(CODEC_CLIENT, stanza, heads);
		stk_stanza_unref(stanza);
	}
}

static void header_that_only_looks_like_a_number_stays_text(void **state)
{
	(void)state;
	static const char *const names[] = { "_16", "_0",          "_007",         "_-0", "_-",
					     "_",   "_2147483648", "_-2147483649", "_5x", "_ 5" };
	for (size_t i = 0; i < COUNT(names); i++) {
		const struct head heads[] = { { 0, names[i], "v" }, { 0 } };
		struct stk_stanza *stanza = decode_heads(CODEC_CLIENT, heads);
		assert_string_equal(stk_node_attr(stk_node_next(stk_stanza_payload(stanza)), "name"), names[i]);
		assert_sent(CODEC_CLIENT, stanza, heads);
		stk_stanza_unref(stanza);
	}
}

static void header_without_a_name_is_none(void **state)
{
	(void)state;
	const struct head heads[] = { { 0, NULL, "1" }, { 0, "", "2" }, { 0 } };
	struct stk_stanza *stanza = decode_heads(CODEC_CLIENT, heads);
	assert_stanza(stanza, PLAIN ">hi</body></message>");
	stk_stanza_unref(stanza);

	const struct head sent[] = { { 0, "errcode", "0" }, { 0, "x", "" }, { 0 } };
	stanza = stanza_of("<message type='chat'><body id='m'>x</body><header value='1'/><header name='' value='1'/>"
			   "<header name='novalue'/><header xmlns='urn:other' name='y' value='1'/>"
			   "<header name='x' value=''/><other name='z' value='1'/></message>");
	assert_sent(CODEC_SERVER, stanza, sent);
	stk_stanza_unref(stanza);
}

/* What the server says of a message is not a client's to say, under no spelling. */
static void clients_cannot_have_the_servers_headers(void **state)
{
	(void)state;
	const struct head heads[] = { { 0, "errcode", "406" },
				      { 72, NULL, "true" },
				      { 0, "carbon_message", "true" },
				      { 72, "harmless", "true" },
				      { 200, "errcode", "406" },
				      { 0, "originfrom", "x" },
				      { 0, "originto", "x" },
				      { 0, "origintype", "x" },
				      { 0, "sendjid", "x" },
				      { 200, "sendjid", "x" },
				      { 0 } };
	struct stk_stanza *stanza = decode_heads(CODEC_CLIENT, heads);
	assert_stanza(stanza, PLAIN ">hi</body></message>");
	stk_stanza_unref(stanza);

	/* nor when the name only stands for the number: it stays a name that means nothing */
	const struct head numbers[] = { { 0, "_72", "true" }, { 0 } };
	stanza = decode_heads(CODEC_CLIENT, numbers);
	const struct head sent[] = { { 0, "errcode", "0" }, { 0, "_72", "true" }, { 0 } };
	assert_sent(CODEC_SERVER, stanza, sent);
	stk_stanza_unref(stanza);

	/* a header element is no way to an attribute, for either side */
	const struct head none[] = { { 0 } }, only_own[] = { { 0, "errcode", "0" }, { 0 } };
	stanza = stanza_of("<message type='chat'><body id='m'>x</body><header name='errcode' value='406'/>"
			   "<header name='carbon_message' value='true'/><header name='qchatid' value='4'/></message>");
	assert_sent(CODEC_CLIENT, stanza, none);
	assert_sent(CODEC_SERVER, stanza, only_own);
	stk_stanza_unref(stanza);
}

static void servers_may_say_all(void **state)
{
	(void)state;
	const struct head heads[] = { { 0, "errcode", "0" }, { 72, NULL, "true" }, { 0, "sendjid", "x" }, { 0 } };
	struct stk_stanza *stanza = decode_heads(CODEC_SERVER, heads);
	assert_string_equal(stk_node_attr(stk_stanza_root(stanza), "carbon_message"), "true");
	assert_null(stk_node_attr(stk_stanza_root(stanza), "sendjid")); /* the envelope's, not the header's */
	assert_string_equal(stk_node_attr(stk_node_child(stk_stanza_root(stanza), "header", NULL), "name"), "sendjid");
	assert_sent(CODEC_SERVER, stanza, heads);
	stk_stanza_unref(stanza);
}

static void message_without_a_body_has_headers_too(void **state)
{
	(void)state;
	const struct head sent[] = { { 0, "errcode", "0" }, { 0, "x", "1" }, { 0 } };
	struct stk_stanza *stanza = stanza_of("<message from='" ALICE "' to='" FULL "' type='typing' "
					      "client_type='ClientTypePC' client_ver='0' msec_times='1'>"
					      "<header name='x' value='1'/></message>");
	assert_sent(CODEC_SERVER, stanza, sent);
	assert_round_trip(CODEC_SERVER, FULL, stanza);
	stk_stanza_unref(stanza);
}

static void as_many_headers_are_carried_as_a_frame_may_hold(void **state)
{
	(void)state;
	enum { MOST = 256 };
	struct arena *arena = arena_new(0);
	assert_non_null(arena);
	struct head *heads = arena_alloc(arena, (MOST + 1) * sizeof(*heads));
	Startalk__StringHeader *headers = arena_alloc(arena, MOST * sizeof(*headers));
	Startalk__StringHeader **list = arena_alloc(arena, MOST * sizeof(*list));
	assert_true(heads && headers && list);
	for (size_t i = 0; i < MOST; i++) {
		char name[16];
		snprintf(name, sizeof(name), "n%zu", i);
		heads[i] = (struct head){ 0, arena_strndup(arena, name, strlen(name)), "v" };
		startalk__string_header__init(&headers[i]);
		headers[i].key = text(heads[i].key);
		headers[i].value = text("v");
		list[i] = &headers[i];
	}
	heads[MOST] = (struct head){ 0, NULL, NULL };
	Startalk__MessageBody body;
	startalk__message_body__init(&body);
	body.headers = list;
	body.n_headers = MOST;
	struct stk_stanza *stanza = decode_side(CODEC_CLIENT, &body);
	assert_sent(CODEC_CLIENT, stanza, heads);
	stk_stanza_unref(stanza);
	arena_free(&arena);
}

static void header_that_is_not_utf8_is_never_sent(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_SERVER, FULL);
	static const char *const bad[][2] = { { "\xff", "v" }, { "n", "\xff" } };
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct stk_stanza *stanza = stanza_of("<message type='chat'><body id='m'>x</body></message>");
		struct stk_node *header = stk_node_add(stk_stanza_edit(stanza), "header", NULL);
		struct buf out = { 0 };
		stk_node_set(header, "name", bad[i][0]);
		stk_node_set(header, "value", bad[i][1]);
		assert_int_equal(codec_encode(&context, stanza, &out), -EILSEQ);
		assert_int_equal(out.len, 0);
		buf_fini(&out);
		stk_stanza_unref(stanza);
	}
}

/* ---- the bytes ---- */

/* What the codec writes of STANZA is what protobuf-c would. */
static void assert_packed_alike(enum codec_side side, const struct stk_stanza *stanza)
{
	struct codec_context context = context_of(side, FULL);
	struct buf frame = { 0 }, msg = { 0 };
	assert_int_equal(codec_encode(&context, stanza, &frame), 0);
	assert_true(frame.len > 0);
	open_frame(buf_data(&frame), frame.len, &msg);
	Startalk__ProtoMessage *envelope = startalk__proto_message__unpack(NULL, msg.len, buf_data(&msg));
	assert_non_null(envelope);
	Startalk__XmppMessage *message =
		startalk__xmpp_message__unpack(NULL, envelope->message.len, envelope->message.data);
	assert_non_null(message);
	size_t n = startalk__xmpp_message__get_packed_size(message);
	assert_int_equal(n, envelope->message.len);
	uint8_t *again = malloc(msg.len);
	assert_non_null(again);
	startalk__xmpp_message__pack(message, again);
	assert_memory_equal(again, envelope->message.data, n);
	assert_int_equal(startalk__proto_message__get_packed_size(envelope), msg.len);
	startalk__proto_message__pack(envelope, again);
	assert_memory_equal(again, buf_data(&msg), msg.len);
	free(again);
	startalk__xmpp_message__free_unpacked(message, NULL);
	startalk__proto_message__free_unpacked(envelope, NULL);
	buf_fini(&frame);
	buf_fini(&msg);
}

static void written_bytes_are_those_of_protobuf(void **state)
{
	(void)state;
	static const char *const messages[] = {
		"<message type='typing'/>",
		"<message type='chat'><body/></message>",
		"<message type='revoke' client_ver='-1' msec_times='-9223372036854775808'><body "
		"msgType='-1'/></message>",
		"<message type='chat' client_ver='9223372036854775807' msec_times='0'><body "
		"msgType='2147483647'/></message>",
		"<message type='collection' from='' to='' realfrom='a' realto='' originfrom='b' originto='c' "
		"origintype='d' sendjid='e' qchatid='4' read_type='1' auto_reply='true' carbon_message='true'>"
		"<body id='' msgType='128' channelid='' extendInfo='x' backupinfo='y'>世界</body><error code='1'/>"
		"<header name='_-2147483648' value=''/><header name='title' value='t'/><header name='x' value='y'/>"
		"<header name='_127' value='a'/><header name='_128' value='b'/></message>",
	};
	for (size_t i = 0; i < COUNT(messages); i++) {
		struct stk_stanza *stanza = stanza_of(messages[i]);
		assert_packed_alike(CODEC_SERVER, stanza);
		stk_stanza_unref(stanza);
	}
}

/* Sizes about those where a length takes one more byte, and where the frame leaves the stack. */
static void written_bytes_are_those_of_protobuf_at_every_size(void **state)
{
	(void)state;
	char *long_text = malloc(20001);
	assert_non_null(long_text);
	for (size_t n = 0; n <= 20000; n += n < 1300 ? 1 : n > 16000 && n < 16500 ? 7 : 499) {
		memset(long_text, 'x', n);
		long_text[n] = '\0';
		for (size_t where = 0; where < 3; where++) {
			struct stk_stanza *stanza =
				stanza_of("<message type='chat' to='" FULL "'><body id='m'/></message>");
			struct stk_node *body = (struct stk_node *)(uintptr_t)stk_stanza_payload(stanza);
			stk_node_set(body, "extendInfo", where == 1 ? long_text : NULL);
			stk_node_set_text(body, where == 0 ? long_text : "");
			if (where == 2) {
				struct stk_node *header = stk_node_add(stk_stanza_edit(stanza), "header", NULL);
				stk_node_set(header, "name", n ? long_text : "n");
				stk_node_set(header, "value", "v");
			}
			assert_packed_alike(CODEC_SERVER, stanza);
			assert_packed_alike(CODEC_CLIENT, stanza);
			stk_stanza_unref(stanza);
		}
	}
	free(long_text);
}

static void written_bytes_are_those_of_protobuf_with_any_number_of_headers(void **state)
{
	(void)state;
	for (size_t n = 0; n < 70; n++) {
		struct stk_stanza *stanza =
			stanza_of("<message type='chat' to='" FULL "'><body id='m'>x</body></message>");
		for (size_t i = 0; i < n; i++) {
			char name[16];
			struct stk_node *header = stk_node_add(stk_stanza_edit(stanza), "header", NULL);
			snprintf(name, sizeof(name), i % 2 ? "n%zu" : "_%zu", i + 100);
			stk_node_set(header, "name", name);
			stk_node_set(header, "value", name);
		}
		assert_packed_alike(CODEC_SERVER, stanza);
		stk_stanza_unref(stanza);
	}
}

/* ---- kinds and text ---- */

static void message_type_of_any_number_is_kept(void **state)
{
	(void)state;
	static const int32_t numbers[] = { INT32_MIN, -65536, -12, -11, -2,    -1,        0,        1,
					   2,         31,     127, 128, 65535, 268435457, INT32_MAX };
	for (size_t i = 0; i < 2 * COUNT(numbers); i++) {
		enum codec_side side = i % 2 ? CODEC_SERVER : CODEC_CLIENT;
		int32_t number = numbers[i / 2];
		struct codec_context context = context_of(side, FULL);
		char wanted[16];
		snprintf(wanted, sizeof(wanted), "%" PRId32, number);
		Startalk__XmppMessage message, *sent;
		startalk__xmpp_message__init(&message);
		message.messageid = text("m");
		message.has_messagetype = true;
		message.messagetype = number;
		struct stk_stanza *stanza = decode_inner(&context, 6, &message.base, ALICE, FULL);
		assert_string_equal(stk_node_attr(stk_stanza_payload(stanza), "msgType"), wanted);
		Startalk__ProtoMessage *envelope = encode_stanza(&context, stanza);
		sent = startalk__xmpp_message__unpack(NULL, envelope->message.len, envelope->message.data);
		assert_true(sent->has_messagetype);
		assert_int_equal(sent->messagetype, number);
		startalk__xmpp_message__free_unpacked(sent, NULL);
		startalk__proto_message__free_unpacked(envelope, NULL);
		stk_stanza_unref(stanza);
	}
}

/* Some clients write a negative number in five bytes instead of ten. */
static void short_negative_message_type_is_read(void **state)
{
	(void)state;
	struct codec_context context = context_of(CODEC_CLIENT, NULL);
	struct buf frame = { 0 };
	struct stk_stanza *stanza;
	const char *why;
	frame_of_bytes(&frame, 14, (const uint8_t *)"\x08\xff\xff\xff\xff\x0f", 6);
	assert_int_equal(codec_decode(&context, buf_data(&frame), frame.len, &stanza, NULL, &why), 0);
	assert_string_equal(stk_node_attr(stk_stanza_payload(stanza), "msgType"), "-1");
	stk_stanza_unref(stanza);
	buf_fini(&frame);
}

static void text_of_any_script_is_kept(void **state)
{
	(void)state;
	static const char *const texts[] = { "你好，世界",
					     "안녕하세요 こんにちは カナ",
					     "שלום مرحبا",
					     "नमस्ते ไทย ქართული ᚠᚢᚦ",
					     "e\xcc\x81 o\xcc\x88 combined",
					     "👩‍👩‍👧‍👦🇨🇳 𠜎 \xf4\x8f\xbf\xbf",
					     "\xef\xbb\xbf\xe2\x80\xae\xe2\x80\x8b",
					     "\xef\xbf\xbf\xef\xbf\xbd",
					     "\x01\t\r\n\x7f",
					     " <&'\"> " };
	for (size_t i = 0; i < COUNT(texts); i++) {
		const struct head heads[] = { { 3, NULL, texts[i] }, { 0, texts[i], texts[i] }, { 0 } };
		struct codec_context context = context_of(CODEC_CLIENT, NULL);
		struct made_body body;
		Startalk__XmppMessage message;
		startalk__xmpp_message__init(&message);
		message.messageid = text(texts[i]);
		message.body = make_body(&body, heads, texts[i]);
		struct stk_stanza *stanza = decode_inner(&context, 7, &message.base, texts[i], texts[i]);
		const struct stk_node *payload = stk_stanza_payload(stanza);
		assert_string_equal(stk_stanza_to(stanza), texts[i]);
		assert_string_equal(stk_stanza_from(stanza), texts[i]);
		assert_string_equal(stk_node_text(payload), texts[i]);
		assert_string_equal(stk_node_attr(payload, "id"), texts[i]);
		assert_string_equal(stk_node_attr(payload, "extendInfo"), texts[i]);
		assert_string_equal(stk_node_attr(stk_node_next(payload), "name"), texts[i]);
		assert_string_equal(stk_node_attr(stk_node_next(payload), "value"), texts[i]);
		assert_round_trip(CODEC_CLIENT, ALICE, stanza);
		stk_stanza_unref(stanza);
	}
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
		cmocka_unit_test(headers_that_no_table_knows_are_carried),
		cmocka_unit_test(last_header_of_a_name_wins_where_the_first_one_stood),
		cmocka_unit_test(header_by_any_number_goes_out_as_it_came),
		cmocka_unit_test(header_that_only_looks_like_a_number_stays_text),
		cmocka_unit_test(header_without_a_name_is_none),
		cmocka_unit_test(clients_cannot_have_the_servers_headers),
		cmocka_unit_test(servers_may_say_all),
		cmocka_unit_test(message_without_a_body_has_headers_too),
		cmocka_unit_test(as_many_headers_are_carried_as_a_frame_may_hold),
		cmocka_unit_test(header_that_is_not_utf8_is_never_sent),
		cmocka_unit_test(written_bytes_are_those_of_protobuf),
		cmocka_unit_test(written_bytes_are_those_of_protobuf_at_every_size),
		cmocka_unit_test(written_bytes_are_those_of_protobuf_with_any_number_of_headers),
		cmocka_unit_test(message_type_of_any_number_is_kept),
		cmocka_unit_test(short_negative_message_type_is_read),
		cmocka_unit_test(text_of_any_script_is_kept),
	};
	return cmocka_run_group_tests(tests, NULL, fini);
}
