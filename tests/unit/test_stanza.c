/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include "core/stanza.h"
#include "core/xml.h"

static void assert_xml(const struct stk_stanza *stanza, const char *wanted)
{
	struct buf out = { 0 };
	assert_int_equal(xml_print(stanza, &out), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_string_equal((const char *)buf_data(&out), wanted);
	buf_fini(&out);
}

static struct stk_stanza *make_stanza(void)
{
	struct stk_stanza *stanza = stk_stanza_new(STK_IQ, "set", "id<1>");
	struct stk_node *query = stk_node_add(stk_stanza_edit(stanza), "query", "urn:example");
	stk_node_set(stk_node_add(query, "item", NULL), "nick", "a'b\n\"c\"");
	stk_node_set_text(stk_node_add(stk_node_add(query, "outer", NULL), "inner", NULL), "x & y");
	assert_non_null(stanza);
	assert_false(stanza_failed(stanza));
	return stanza;
}

#define MADE "<iq type='set' id='id&lt;1&gt;'><query xmlns='urn:example'><item nick='a&apos;b&#10;&quot;c&quot;'/>" \
	     "<outer><inner>x &amp; y</inner></outer></query></iq>"

static void a_stanza_prints_as_one_line_of_xml(void **state)
{
	(void)state;
	struct stk_stanza *stanza = make_stanza();
	assert_xml(stanza, MADE);
	stk_stanza_unref(stanza);
}

static void a_copy_is_equal_and_can_be_changed_alone(void **state)
{
	(void)state;
	struct stk_stanza *stanza = make_stanza();
	stanza_seal(stanza);
	struct stk_stanza *copy = stk_stanza_copy(stanza);
	assert_non_null(copy);
	assert_xml(copy, MADE);
	stk_node_set(stk_stanza_edit(copy), "type", "result");
	assert_string_equal(stk_stanza_type(copy), "result");
	assert_string_equal(stk_stanza_type(stanza), "set");
	stk_stanza_unref(copy);
	stk_stanza_unref(stanza);
}

static void a_sealed_stanza_cannot_be_edited(void **state)
{
	(void)state;
	struct stk_stanza *stanza = make_stanza();
	stanza_seal(stanza);
	assert_null(stk_stanza_edit(stanza));
	stk_node_set(stk_stanza_edit(stanza), "type", "get");
	assert_string_equal(stk_stanza_type(stanza), "set");
	stk_stanza_unref(stanza);
}

static void the_namespace_is_that_of_the_first_child_that_has_one(void **state)
{
	(void)state;
	struct stk_stanza *stanza = stk_stanza_new(STK_PRESENCE, NULL, NULL);
	assert_null(stk_stanza_xmlns(stanza));
	stk_node_add(stk_stanza_edit(stanza), "priority", NULL);
	stk_node_set(stk_stanza_edit(stanza), "xmlns", "urn:own");
	assert_string_equal(stk_stanza_xmlns(stanza), "urn:own");
	stk_node_add(stk_stanza_edit(stanza), "notify", "urn:child");
	assert_string_equal(stk_stanza_xmlns(stanza), "urn:child");
	stk_stanza_unref(stanza);
}

static void a_result_goes_back_to_the_sender(void **state)
{
	(void)state;
	struct stk_stanza *request = make_stanza();
	stk_stanza_set_from(request, "alice@example.org/a");
	stk_stanza_set_to(request, "alice@example.org");
	struct stk_stanza *result = stk_stanza_result(request);
	assert_xml(result, "<iq type='result' id='id&lt;1&gt;' from='alice@example.org' to='alice@example.org/a'/>");
	assert_null(stk_stanza_result(result));
	stk_stanza_unref(result);
	stk_stanza_unref(request);
}

static void running_out_of_memory_is_remembered(void **state)
{
	(void)state;
	struct stk_stanza *stanza = stk_stanza_new(STK_MESSAGE, "chat", NULL);
	arena_set_limit(stanza_arena(stanza), 1);
	assert_null(stk_node_add(stk_stanza_edit(stanza), "body", NULL));
	assert_true(stanza_failed(stanza));
	stk_node_set(stk_stanza_edit(stanza), "k", "v");
	stk_stanza_unref(stanza);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stanza_prints_as_one_line_of_xml),
		cmocka_unit_test(a_copy_is_equal_and_can_be_changed_alone),
		cmocka_unit_test(a_sealed_stanza_cannot_be_edited),
		cmocka_unit_test(the_namespace_is_that_of_the_first_child_that_has_one),
		cmocka_unit_test(a_result_goes_back_to_the_sender),
		cmocka_unit_test(running_out_of_memory_is_remembered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
