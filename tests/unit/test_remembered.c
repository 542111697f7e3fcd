/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <stdio.h>

#include "modules/auth_sqlite/remembered.h"

static struct remembered *make(double keep)
{
	struct remembered *remembered = remembered_new();
	assert_non_null(remembered);
	remembered_keep(remembered, keep);
	return remembered;
}

static void only_the_same_password_of_the_same_account_and_row_is_known(void **state)
{
	(void)state;
	struct remembered *remembered = make(10);
	assert_false(remembered_check(remembered, "a@x", "row", NULL, "pw", 0));
	remembered_add(remembered, "a@x", "row", NULL, "pw", 0);
	assert_true(remembered_check(remembered, "a@x", "row", NULL, "pw", 1));
	assert_false(remembered_check(remembered, "a@x", "row", NULL, "pW", 1));
	assert_false(remembered_check(remembered, "a@x", "row", NULL, "", 1));
	assert_false(remembered_check(remembered, "b@x", "row", NULL, "pw", 1));
	assert_false(remembered_check(remembered, "a@x", "other row", NULL, "pw", 1));
	assert_false(remembered_check(remembered, "a@x", "row", "", "pw", 1));
	assert_false(remembered_check(remembered, "a@x", "rowp", NULL, "w", 1)); /* the texts are kept apart */
	remembered_add(remembered, "a@x", "row", NULL, "new", 1);
	assert_false(remembered_check(remembered, "a@x", "row", NULL, "pw", 1));
	assert_true(remembered_check(remembered, "a@x", "row", NULL, "new", 1));
	remembered_free(&remembered);
	assert_null(remembered);
}

static void it_is_kept_from_its_last_use_on_and_can_be_switched_off(void **state)
{
	(void)state;
	struct remembered *remembered = make(10);
	remembered_add(remembered, "a@x", "row", NULL, "pw", 0);
	assert_true(remembered_check(remembered, "a@x", "row", NULL, "pw", 9999));
	assert_true(remembered_check(remembered, "a@x", "row", NULL, "pw", 19998));
	assert_false(remembered_check(remembered, "a@x", "row", NULL, "pw", 30000));
	remembered_add(remembered, "a@x", "row", NULL, "pw", 0);
	remembered_sweep(remembered, 10000);
	assert_false(remembered_check(remembered, "a@x", "row", NULL, "pw", 1));
	remembered_add(remembered, "a@x", "row", NULL, "pw", 0);
	remembered_keep(remembered, 0);
	assert_false(remembered_check(remembered, "a@x", "row", NULL, "pw", 1));
	remembered_add(remembered, "a@x", "row", NULL, "pw", 0);
	remembered_keep(remembered, 10);
	assert_false(remembered_check(remembered, "a@x", "row", NULL, "pw", 1));
	remembered_free(&remembered);
}

static void many_are_remembered_and_more_than_there_is_room_for_do_no_harm(void **state)
{
	(void)state;
	struct remembered *remembered = make(1000);
	char name[32];
	unsigned known = 0;
	for (int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "u%d@x", i);
		remembered_add(remembered, name, "row", "salt", name, i);
	}
	for (int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "u%d@x", i);
		known += remembered_check(remembered, name, "row", "salt", name, 20000);
		assert_false(remembered_check(remembered, name, "row", "salt", "wrong", 20000));
	}
	assert_int_equal(known, 20000);
	for (int i = 0; i < 2 * REMEMBERED_MAX; i++) {
		snprintf(name, sizeof(name), "v%d@x", i);
		remembered_add(remembered, name, "row", "salt", name, 30000 + i);
	}
	known = 0;
	for (int i = 0; i < 2 * REMEMBERED_MAX; i++) {
		snprintf(name, sizeof(name), "v%d@x", i);
		known += remembered_check(remembered, name, "row", "salt", name, 30000 + 2 * REMEMBERED_MAX);
	}
	assert_in_range(known, REMEMBERED_MAX / 2, REMEMBERED_MAX);
	remembered_free(&remembered);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_same_password_of_the_same_account_and_row_is_known),
		cmocka_unit_test(it_is_kept_from_its_last_use_on_and_can_be_switched_off),
		cmocka_unit_test(many_are_remembered_and_more_than_there_is_room_for_do_no_harm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
