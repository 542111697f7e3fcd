/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <stdio.h>

#include "core/refusals.h"

struct seen {
	char text[4096];
	size_t len, most;
};

static bool see(const struct stk_refusal *refusal, void *arg)
{
	struct seen *seen = arg;
	int n = snprintf(seen->text + seen->len, sizeof(seen->text) - seen->len, "%s%s x%u %s%s @%d",
			 seen->len ? "; " : "", refusal->why, refusal->count, refusal->address,
			 refusal->secure ? " TLS" : "", (int)refusal->at);
	seen->len += (size_t)n;
	return --seen->most > 0;
}

static const char *list(const struct refusals *refusals, const char *bare, struct seen *seen, size_t most)
{
	*seen = (struct seen){ .most = most };
	refusals_each(refusals, bare, see, seen);
	return seen->text;
}

static void a_user_s_refusals_come_latest_first_and_only_his(void **state)
{
	(void)state;
	struct seen seen;
	struct refusals *refusals = refusals_new();
	refusals_add(refusals, "bob@example.org", "10.0.0.1:1", false, "wrong password", 1);
	refusals_add(refusals, "alice@example.org", "10.0.0.1:2", false, "unknown user", 2);
	refusals_add(refusals, "BOB@example.org/x", "10.0.0.1:3", true, "disabled", 3);
	assert_string_equal(list(refusals, "Bob@Example.ORG", &seen, 9),
			    "disabled x1 10.0.0.1:3 TLS @3; wrong password x1 10.0.0.1:1 @1");
	assert_string_equal(list(refusals, "bob@example.org", &seen, 1), "disabled x1 10.0.0.1:3 TLS @3");
	assert_string_equal(list(refusals, "carol@example.org", &seen, 9), "");
	refusals_free(&refusals);
	assert_null(refusals);
}

static void the_same_again_from_one_address_counts_up(void **state)
{
	(void)state;
	struct seen seen;
	struct refusals *refusals = refusals_new();
	refusals_add(refusals, "bob@a", "10.0.0.1:1", false, "wrong password", 1);
	refusals_add(refusals, "bob@a", "10.0.0.11:1", false, "wrong password", 2);
	refusals_add(refusals, "bob@a", "10.0.0.1:7", false, "wrong password", 3);
	refusals_add(refusals, "bob@a", "[::1]:7", false, "wrong password", 4);
	refusals_add(refusals, "bob@a", "[::1]:8", false, "wrong password", 5);
	assert_string_equal(
		list(refusals, "bob@a", &seen, 9),
		"wrong password x2 [::1]:8 @5; wrong password x2 10.0.0.1:7 @3; wrong password x1 10.0.0.11:1 @2");
	refusals_free(&refusals);
}

static void the_oldest_make_way_and_what_is_no_user_is_left_out(void **state)
{
	(void)state;
	struct seen seen;
	struct refusals *refusals = refusals_new();
	refusals_add(refusals, "first@a", "10.0.0.1:1", false, "wrong password", 1);
	refusals_add(refusals, "second@a", "10.0.0.1:1", false, "wrong password", 2);
	for (int i = 0; i < 98; i++) {
		char user[32];
		snprintf(user, sizeof(user), "u%d@a", i);
		refusals_add(refusals, user, "10.0.0.1:1", false, "wrong password", 3 + i);
	}
	refusals_add(refusals, "first@a", "10.0.0.1:1", false, "wrong password", 200); /* no longer the oldest */
	refusals_add(refusals, "@", "10.0.0.1:1", false, "wrong password", 201);
	refusals_add(refusals, "one more@a", "10.0.0.1:1", false, "wrong password", 202);
	assert_string_equal(list(refusals, "second@a", &seen, 9), "wrong password x1 10.0.0.1:1 @2");
	refusals_add(refusals, "onemore@a", "10.0.0.1:1", false, "wrong password", 203);
	assert_string_equal(list(refusals, "second@a", &seen, 9), "");
	assert_string_equal(list(refusals, "first@a", &seen, 9), "wrong password x2 10.0.0.1:1 @200");
	refusals_free(&refusals);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_user_s_refusals_come_latest_first_and_only_his),
		cmocka_unit_test(the_same_again_from_one_address_counts_up),
		cmocka_unit_test(the_oldest_make_way_and_what_is_no_user_is_left_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
