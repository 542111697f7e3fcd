/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <errno.h>

#include "modules/archive/record.h"
#include "tests/unit/stanza_equal.h"

static struct stk_stanza *make(const char *from, const char *to, const char *text)
{
	struct stk_stanza *stanza = stk_stanza_new(STK_MESSAGE, "chat", NULL);
	stk_stanza_set_from(stanza, from);
	stk_stanza_set_to(stanza, to);
	struct stk_node *root = stk_stanza_edit(stanza);
	stk_node_set(root, "client_type", "ClientTypePC");
	stk_node_set(root, "client_ver", "200012");
	stk_node_set(root, "msec_times", "1614599258867");
	struct stk_node *body = stk_node_add(root, "body", NULL);
	stk_node_set(body, "id", "m-1");
	stk_node_set(body, "msgType", "1");
	stk_node_set_text(body, text);
	return stanza;
}

static struct stk_node *body_of(struct stk_stanza *stanza)
{
	return (struct stk_node *)(uintptr_t)stk_node_child(stk_stanza_root(stanza), "body", NULL);
}

/* There and back; frees STANZA. Returns whether anything had no column. */
static bool goes_round(struct stk_stanza *stanza)
{
	struct record record;
	assert_int_equal(record_read(&record, stanza), 0);
	struct stk_stanza *again = record_stanza(&record);
	assert_non_null(again);
	assert_true(stanza_equal(stanza, again));
	bool more = record.more != NULL;
	record_fini(&record);
	stk_stanza_unref(stanza);
	stk_stanza_unref(again);
	return more;
}

static void a_plain_message_needs_its_columns_only(void **state)
{
	(void)state;
	assert_false(goes_round(make("alice@example.org/V[1]_P[PC]", "bob@example.org", "你好 bob")));
	assert_false(goes_round(make("alice@example.org", "bob@example.org", "")));
}

static void addresses_keep_their_spelling(void **state)
{
	(void)state;
	static const char *const odd[][2] = {
		{ "Alice@Example.org/R", "bob@example.org" },
		{ "alice@example.org/R", "BOB@example.org" },
		{ "alice@example.org/R", "bob@example.org/R2" },
		{ "ÄRGER@example.org/r/s", "ärger@EXAMPLE.org/x" },
	};
	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		assert_true(goes_round(make(odd[i][0], odd[i][1], "x")));
	}
}

static void every_attribute_and_header_comes_back(void **state)
{
	(void)state;
	struct stk_stanza *stanza = make("a@d/r", "b@d", "[file]");
	struct stk_node *root = stk_stanza_edit(stanza), *body = body_of(stanza);
	stk_node_set(root, "xmlns", "some:namespace");
	stk_node_set(root, "id", "root id");
	stk_node_set(root, "qchatid", "4");
	stk_node_set(root, "realfrom", "");
	stk_node_set(root, "client_type", "ClientTypeToaster");
	stk_node_set(root, "client_ver", "007");
	stk_node_set(body, "xmlns", "other:namespace");
	stk_node_set(body, "msgType", "+1");
	stk_node_set(body, "extendInfo", "{\"FileName\":\"报告 \\\"x\\\"\"}\n\t");
	stk_node_set(body, "channelid", "{\"cn\":\"consult\"}");
	const char *values[] = { "", "\x7f\x01 \\ \" / \xf0\x9f\x98\x80", "again" };
	for (size_t i = 0; i < 3; i++) {
		struct stk_node *header = stk_node_add(root, "header", NULL);
		stk_node_set(header, "name", "x-odd name");
		stk_node_set(header, "value", values[i]);
	}
	struct stk_node *child = stk_node_add(root, "delay", "urn:xmpp:delay");
	stk_node_set_text(child, "text & <more>");
	assert_true(goes_round(stanza));
}

static void a_body_behind_other_children_stays_there(void **state)
{
	(void)state;
	struct stk_stanza *stanza = stk_stanza_new(STK_MESSAGE, "consult", NULL);
	stk_stanza_set_from(stanza, "a@d");
	stk_stanza_set_to(stanza, "b@d");
	struct stk_node *root = stk_stanza_edit(stanza);
	stk_node_set(root, "msec_times", "1");
	stk_node_set_text(root, "between");
	stk_node_add(root, "first", NULL);
	stk_node_add(root, "second", NULL);
	stk_node_set(stk_node_add(root, "body", NULL), "id", "");
	stk_node_add(root, "last", NULL);
	assert_true(goes_round(stanza));
}

static void the_limits_of_numbers_come_back(void **state)
{
	(void)state;
	static const char *const numbers[] = {
		"-1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "", "1 ", "0x1", "-0"
	};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		struct stk_stanza *stanza = make("a@d/r", "b@d", "x");
		stk_node_set(body_of(stanza), "msgType", numbers[i]);
		stk_node_set(stk_stanza_edit(stanza), "client_ver", numbers[i]);
		goes_round(stanza);
	}
}

static void refuse(struct stk_stanza *stanza)
{
	struct record record;
	assert_int_equal(record_read(&record, stanza), -EINVAL);
	record_fini(&record);
	stk_stanza_unref(stanza);
}

static void what_cannot_be_kept_whole_is_refused(void **state)
{
	(void)state;
	struct stk_stanza *stanza = make("a@d/r", "b@d", "x");
	stk_node_add(stk_node_add(stk_stanza_edit(stanza), "outer", NULL), "inner", NULL);
	refuse(stanza);
	stanza = make("a@d/r", "b@d", "x");
	stk_node_set(stk_stanza_edit(stanza), "type", "nonsense");
	refuse(stanza);
	stanza = make("a@d/r", "b@d", "x");
	stk_node_set(stk_stanza_edit(stanza), "msec_times", "yesterday");
	refuse(stanza);
	refuse(make(NULL, "b@d", "x"));
	refuse(make("a@d/r", NULL, "x"));
	refuse(make("a@d/r", "@", "x"));
	stanza = stk_stanza_new(STK_MESSAGE, "chat", NULL);
	stk_stanza_set_from(stanza, "a@d");
	stk_stanza_set_to(stanza, "b@d");
	stk_node_set(stk_stanza_edit(stanza), "msec_times", "1");
	refuse(stanza);
}

static void a_damaged_row_makes_no_stanza(void **state)
{
	(void)state;
	char damaged[] = "{\"message\":";
	struct record record = { .sender = "a@d",
				 .recipient = "b@d",
				 .id = "1",
				 .body = "x",
				 .more = damaged,
				 .time = 1,
				 .type = RECORD_CHAT };
	assert_null(record_stanza(&record));
	record.more = NULL;
	record.type = 5;
	assert_null(record_stanza(&record));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_plain_message_needs_its_columns_only),
		cmocka_unit_test(addresses_keep_their_spelling),
		cmocka_unit_test(every_attribute_and_header_comes_back),
		cmocka_unit_test(a_body_behind_other_children_stays_there),
		cmocka_unit_test(the_limits_of_numbers_come_back),
		cmocka_unit_test(what_cannot_be_kept_whole_is_refused),
		cmocka_unit_test(a_damaged_row_makes_no_stanza),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
