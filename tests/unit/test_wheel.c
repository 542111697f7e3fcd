/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include "core/wheel.h"

struct item {
	struct link link;
	int number;
};

/* Turns the wheel once; returns how many were due, the number of the last one in LAST. */
static int turn(struct wheel *wheel, int *last)
{
	int count = 0;
	wheel_turn(wheel);
	for (struct link *link; (link = wheel_take(wheel)); count++) {
		*last = LINK_OWNER(link, struct item, link)->number;
	}
	return count;
}

static void each_comes_at_its_turn(void **state)
{
	(void)state;
	struct wheel wheel = { .now = UINT32_MAX - 3 }; /* the count of turns begins anew meanwhile */
	struct item items[WHEEL_SLOTS] = { 0 };
	uint32_t begin = wheel.now;
	for (int i = 1; i < WHEEL_SLOTS; i++) {
		items[i].number = i;
		wheel_add(&wheel, &items[i].link, begin + (uint32_t)i);
	}
	for (int i = 1; i < WHEEL_SLOTS; i++) {
		int last = 0;
		assert_int_equal(turn(&wheel, &last), 1);
		assert_int_equal(last, i);
		assert_false(link_is_in(&items[i].link));
	}
}

static void what_is_past_or_too_far_comes_as_near_to_it_as_can_be(void **state)
{
	(void)state;
	struct wheel wheel = { .now = 1000 };
	struct item past = { .number = 1 }, far = { .number = 2 };
	int last = 0;
	wheel_add(&wheel, &past.link, 900);
	wheel_add(&wheel, &far.link, 1000 + 10 * WHEEL_SLOTS);
	assert_int_equal(turn(&wheel, &last), 1);
	assert_int_equal(last, 1);
	for (int i = 2; i < WHEEL_SLOTS - 1; i++) {
		assert_int_equal(turn(&wheel, &last), 0);
	}
	assert_int_equal(turn(&wheel, &last), 1);
	assert_int_equal(last, 2);
}

static void what_is_taken_out_does_not_come(void **state)
{
	(void)state;
	struct wheel wheel = { 0 };
	struct item items[3] = { { .number = 0 }, { .number = 1 }, { .number = 2 } };
	int last = -1;
	for (int i = 0; i < 3; i++) {
		wheel_add(&wheel, &items[i].link, 1);
	}
	link_remove(&items[1].link);
	link_remove(&items[1].link);
	link_remove(&items[2].link);
	assert_int_equal(turn(&wheel, &last), 1);
	assert_int_equal(last, 0);
}

static void one_that_was_due_can_be_added_again_at_once(void **state)
{
	(void)state;
	struct wheel wheel = { 0 };
	struct item item = { .number = 7 };
	wheel_add(&wheel, &item.link, 1);
	for (int i = 0; i < 1000; i++) {
		wheel_turn(&wheel);
		struct link *link = wheel_take(&wheel);
		assert_ptr_equal(link, &item.link);
		wheel_add(&wheel, link, wheel.now + 1);
		assert_null(wheel_take(&wheel));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_comes_at_its_turn),
		cmocka_unit_test(what_is_past_or_too_far_comes_as_near_to_it_as_can_be),
		cmocka_unit_test(what_is_taken_out_does_not_come),
		cmocka_unit_test(one_that_was_due_can_be_added_again_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
