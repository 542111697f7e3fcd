/* SPDX-License-Identifier: MIT */
/* UTF-8 wherever it lies in a text, and numbers as text in both directions up to their limits. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

#include "proto/text.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* TEXT behind BEFORE letters and with BEHIND of them, in memory of exactly its size. */
static bool is_utf8_between(const char *text, size_t before, size_t behind)
{
	size_t n = strlen(text);
	char *all = malloc(before + n + behind + 1);
	assert_non_null(all);
	memset(all, 'a', before + n + behind);
	memcpy(all + before, text, n);
	char *exact = before + n + behind ? realloc(all, before + n + behind) : all;
	assert_non_null(exact);
	bool is = text_is_utf8(exact, before + n + behind);
	free(exact);
	return is;
}

static void utf8_is_told_wherever_it_stands(void **state)
{
	(void)state;
	static const char *const good[] = { "", "a", "\x7f", "é", "世", "🎉", "\xf4\x8f\xbf\xbf", "世界é🎉世界" };
	static const char *const bad[] = {
		"\xff", "\x80", "\xc3", "\xe4\xb8", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "世\xff界", "é\x80"
	};
	for (size_t before = 0; before < 20; before++) {
		for (size_t behind = 0; behind < 20; behind++) {
			for (size_t i = 0; i < COUNT(good); i++) {
				assert_true(is_utf8_between(good[i], before, behind));
			}
			for (size_t i = 0; i < COUNT(bad); i++) {
				assert_false(is_utf8_between(bad[i], before, behind));
			}
		}
	}
}

static void assert_parsed(const char *text, int64_t wanted)
{
	int64_t number = wanted ? 0 : 1;
	assert_true(number_parse(text, INT64_MIN, INT64_MAX, &number));
	assert_true(number == wanted);
}

static void numbers_are_read_up_to_their_limits(void **state)
{
	(void)state;
	assert_parsed("0", 0);
	assert_parsed("-0", 0);
	assert_parsed("007", 7);
	assert_parsed("-11", -11);
	assert_parsed("1614599258867", INT64_C(1614599258867));
	assert_parsed("9223372036854775807", INT64_MAX);
	assert_parsed("-9223372036854775807", -INT64_MAX);
	assert_parsed("-9223372036854775808", INT64_MIN);
	static const char *const bad[] = { NULL,
					   "",
					   "-",
					   "+1",
					   "--1",
					   " 1",
					   "1 ",
					   "0x10",
					   "1.0",
					   "one",
					   "１",
					   "9223372036854775808",
					   "-9223372036854775809",
					   "18446744073709551616",
					   "99999999999999999999" };
	for (size_t i = 0; i < COUNT(bad); i++) {
		int64_t number = 4711;
		assert_false(number_parse(bad[i], INT64_MIN, INT64_MAX, &number));
		assert_true(number == 4711);
	}
	int64_t number;
	assert_true(number_parse("6", 1, 6, &number));
	assert_false(number_parse("7", 1, 6, &number));
	assert_false(number_parse("0", 1, 6, &number));
	assert_false(number_parse("2147483648", INT32_MIN, INT32_MAX, &number));
}

static void printed_numbers_are_read_again(void **state)
{
	(void)state;
	static const int64_t numbers[] = {
		0, 1, -1, 9, 10, -10, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, INT64_C(1614599258867)
	};
	for (size_t i = 0; i < COUNT(numbers); i++) {
		char *text = malloc(NUMBER_ROOM);
		assert_non_null(text);
		size_t len = number_print(numbers[i], text);
		assert_int_equal(len, strlen(text));
		assert_parsed(text, numbers[i]);
		free(text);
	}
	char text[NUMBER_ROOM];
	number_print(INT64_MIN, text);
	assert_string_equal(text, "-9223372036854775808");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(utf8_is_told_wherever_it_stands),
		cmocka_unit_test(numbers_are_read_up_to_their_limits),
		cmocka_unit_test(printed_numbers_are_read_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
