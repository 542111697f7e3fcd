/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <errno.h>

#include "core/jid.h"

static void jid_with_all_parts_is_taken_apart(void **state)
{
	(void)state;
	struct stk_jid jid;
	assert_int_equal(stk_jid_parse(&jid, "alice@example.org/V[1]_P[PC]/x y"), 0);
	assert_int_equal(jid.node_len, 5);
	assert_memory_equal(jid.node, "alice", 5);
	assert_int_equal(jid.domain_len, 11);
	assert_string_equal(jid.resource, "V[1]_P[PC]/x y");
}

static void jid_of_a_domain_has_neither_node_nor_resource(void **state)
{
	(void)state;
	struct stk_jid jid;
	assert_int_equal(stk_jid_parse(&jid, "example.org"), 0);
	assert_int_equal(jid.node_len, 0);
	assert_int_equal(jid.resource_len, 0);
}

static void what_is_no_jid_is_refused(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "@example.org", "alice@", "alice@example.org/", "a@b@c", "al ice@b", "a@b\n", "a@b/\x01", NULL };
	struct stk_jid jid;
	for (size_t i = 0; bad[i]; i++) {
		assert_int_equal(stk_jid_parse(&jid, bad[i]), -EINVAL);
	}
	assert_int_equal(stk_jid_parse(&jid, NULL), -EINVAL);
	char text[1100];
	memset(text, 'a', sizeof(text));
	memcpy(text + 1024, "@b", 3);
	assert_int_equal(stk_jid_parse(&jid, text), -EINVAL);
	memmove(text + 1023, text + 1024, 3);
	assert_int_equal(stk_jid_parse(&jid, text), 0);
}

static void folding_changes_node_and_domain_but_not_the_resource(void **state)
{
	(void)state;
	char out[STK_JID_MAX + 1];
	assert_int_equal(stk_jid_fold("Alice@Example.ORG/Res", out, sizeof(out)), 0);
	assert_string_equal(out, "alice@example.org/Res");
	assert_int_equal(stk_jid_fold("ÄRGER@Straße.example", out, sizeof(out)), 0);
	assert_string_equal(out, "ärger@strasse.example");
	assert_int_equal(stk_jid_fold("鲍勃@example.org", out, sizeof(out)), 0);
	assert_string_equal(out, "鲍勃@example.org");
}

static void folding_reports_what_does_not_fit_or_is_not_utf8(void **state)
{
	(void)state;
	char out[STK_JID_MAX + 1];
	assert_int_equal(stk_jid_fold("alice@example.org", out, 17), -ENAMETOOLONG);
	assert_int_equal(stk_jid_fold("alice@example.org", out, 18), 0);
	assert_int_equal(stk_jid_fold("al\xff@example.org", out, sizeof(out)), -EINVAL);
}

static void comparing_minds_the_resource_only_when_asked(void **state)
{
	(void)state;
	assert_true(stk_jid_same_bare("Alice@Example.org/a", "alice@example.org/b"));
	assert_false(stk_jid_same_bare("alice@example.org", "bob@example.org"));
	assert_true(stk_jid_same("Alice@Example.org/a", "alice@example.org/a"));
	assert_false(stk_jid_same("alice@example.org/a", "alice@example.org/A"));
	assert_false(stk_jid_same("", ""));
}

static void bare_form_drops_the_resource(void **state)
{
	(void)state;
	char out[64];
	assert_int_equal(stk_jid_bare("Alice@example.org/a/b", out, sizeof(out)), 0);
	assert_string_equal(out, "Alice@example.org");
	assert_int_equal(stk_jid_bare("Alice@example.org/a/b", out, 17), -ENAMETOOLONG);
}

/* What is looked at eight bytes at a time is found wherever it stands. */
static void each_byte_counts_at_each_place(void **state)
{
	(void)state;
	for (size_t len = 1; len <= 20; len++) {
		for (size_t at = 0; at < len; at++) {
			for (int byte = 1; byte < 256; byte++) {
				char text[32] = "", bare[32];
				struct stk_jid jid;
				memset(text, 'q', len);
				text[at] = (char)byte;
				strcpy(bare, text);
				strcat(text, "@x");
				bool bad = byte <= ' ' || byte == 0x7f || byte == '@' || byte == '/';
				if (byte == '/' && at > 0) {
					continue; /* a domain and a resource */
				}
				assert_int_equal(stk_jid_parse(&jid, text), bad ? -EINVAL : 0);
				if (bad || byte >= 0x80) {
					continue;
				}
				struct folded folded;
				char wanted[32];
				assert_int_equal(jid_fold_bare(text, &jid, &folded), 0);
				assert_int_equal(stk_jid_fold(text, wanted, sizeof(wanted)), 0);
				assert_int_equal(folded.len, strlen(wanted));
				assert_memory_equal(folded.text, wanted, folded.len);
				bare[at] = byte >= 'A' && byte <= 'Z' ? (char)(byte + 'a' - 'A') : (char)byte;
				assert_memory_equal(wanted, bare, len);
			}
		}
	}
}

static void resource_may_have_spaces_but_no_control_characters(void **state)
{
	(void)state;
	for (int byte = 1; byte < 256; byte++) {
		char text[] = "a@b/0123456789x123";
		struct stk_jid jid;
		text[14] = (char)byte;
		assert_int_equal(stk_jid_parse(&jid, text), byte < ' ' || byte == 0x7f ? -EINVAL : 0);
	}
}

static void folding_the_bare_part_leaves_the_resource_out(void **state)
{
	(void)state;
	struct stk_jid jid;
	struct folded folded;
	const char *texts[] = { "\xc3\x84nne@Example.org/X", "example.org/X", "EXAMPLE.org" };
	const char *wanted[] = { "\xc3\xa4nne@example.org", "example.org", "example.org" };
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(stk_jid_parse(&jid, texts[i]), 0);
		assert_int_equal(jid_fold_bare(texts[i], &jid, &folded), 0);
		assert_int_equal(folded.len, strlen(wanted[i]));
		assert_memory_equal(folded.text, wanted[i], folded.len);
	}
	assert_int_equal(stk_jid_parse(&jid, "\xff@b"), 0);
	assert_int_equal(jid_fold_bare("\xff@b", &jid, &folded), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jid_with_all_parts_is_taken_apart),
		cmocka_unit_test(jid_of_a_domain_has_neither_node_nor_resource),
		cmocka_unit_test(what_is_no_jid_is_refused),
		cmocka_unit_test(folding_changes_node_and_domain_but_not_the_resource),
		cmocka_unit_test(folding_reports_what_does_not_fit_or_is_not_utf8),
		cmocka_unit_test(comparing_minds_the_resource_only_when_asked),
		cmocka_unit_test(bare_form_drops_the_resource),
		cmocka_unit_test(each_byte_counts_at_each_place),
		cmocka_unit_test(resource_may_have_spaces_but_no_control_characters),
		cmocka_unit_test(folding_the_bare_part_leaves_the_resource_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
