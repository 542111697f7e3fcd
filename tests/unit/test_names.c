/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <stdio.h>

#include "modules/auth_sqlite/names.h"

static const char *name(int i)
{
	static char text[64];
	snprintf(text, sizeof(text), "user%d@example.org", i);
	return text;
}

static void names_are_there_from_add_to_remove_whatever_is_removed_around_them(void **state)
{
	(void)state;
	struct names names;
	assert_int_equal(names_init(&names), 0);
	for (int i = 0; i < 5000; i++) {
		assert_false(names_has(&names, name(i)));
		assert_int_equal(names_add(&names, name(i)), 0);
		assert_int_equal(names_add(&names, name(i)), 0);
	}
	assert_int_equal(names.used, 5000);
	for (int i = 0; i < 5000; i += 3) {
		names_remove(&names, name(i));
		names_remove(&names, name(i));
	}
	for (int i = 0; i < 5000; i++) {
		assert_int_equal(names_has(&names, name(i)), i % 3 != 0);
	}
	assert_int_equal(names.used, 5000 - 1667);
	names_fini(&names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_there_from_add_to_remove_whatever_is_removed_around_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
