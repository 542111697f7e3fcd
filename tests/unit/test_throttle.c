/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <stdio.h>

#include "core/throttle.h"

static const struct settings_login limits = { .user_tries = 3, .address_tries = 5, .trusted_time = 100 };

static bool try_once(struct throttle *throttle, const char *user, const char *address, bool success, double now)
{
	enum throttle_account account = throttle_begin(throttle, &limits, user, address, now);
	if (account != THROTTLE_REFUSED) {
		throttle_end(throttle, &limits, account, user, address, success, now);
	}
	return account != THROTTLE_REFUSED;
}

static void a_user_is_refused_after_as_many_failures_as_allowed_and_again_free_later(void **state)
{
	(void)state;
	struct throttle *throttle = throttle_new();
	for (int i = 0; i < 3; i++) {
		assert_true(try_once(throttle, "alice", "10.0.0.1", false, 1000 + i));
	}
	assert_false(try_once(throttle, "alice", "10.0.0.2", true, 1003));
	assert_true(try_once(throttle, "bob", "10.0.0.1", true, 1003));
	assert_false(try_once(throttle, "alice", "10.0.0.2", true, 1061));
	assert_true(try_once(throttle, "alice", "10.0.0.2", true, 1063));
	throttle_free(&throttle);
}

static void an_address_is_refused_whoever_is_tried(void **state)
{
	(void)state;
	struct throttle *throttle = throttle_new();
	char user[16];
	for (int i = 0; i < 5; i++) {
		snprintf(user, sizeof(user), "u%d", i);
		assert_true(try_once(throttle, user, "10.0.0.1", false, 1000));
	}
	assert_false(try_once(throttle, "fresh", "10.0.0.1", true, 1001));
	assert_true(try_once(throttle, "fresh", "10.0.0.2", true, 1001));
	throttle_free(&throttle);
}

static void an_address_that_logged_in_may_fail_ten_times_as_often(void **state)
{
	(void)state;
	struct throttle *throttle = throttle_new();
	char user[16];
	assert_true(try_once(throttle, "owner", "10.0.0.1", true, 1000));
	for (int i = 0; i < 50; i++) {
		snprintf(user, sizeof(user), "u%d", i);
		assert_true(try_once(throttle, user, "10.0.0.1", false, 1001));
	}
	assert_false(try_once(throttle, "owner", "10.0.0.1", true, 1001));
	throttle_free(&throttle);
}

static void a_user_is_let_in_at_home_whatever_is_tried_elsewhere(void **state)
{
	(void)state;
	struct throttle *throttle = throttle_new();
	assert_true(try_once(throttle, "alice", "10.0.0.1", true, 1000));
	for (int i = 0; i < 3; i++) {
		assert_true(try_once(throttle, "alice", "10.0.0.2", false, 1001));
	}
	assert_false(try_once(throttle, "alice", "10.0.0.3", true, 1002));
	assert_true(try_once(throttle, "alice", "10.0.0.1", true, 1002));
	for (int i = 0; i < 3; i++) { /* who sits at the same address may not guess more than anybody else */
		assert_true(try_once(throttle, "alice", "10.0.0.1", false, 1003));
	}
	assert_false(try_once(throttle, "alice", "10.0.0.1", true, 1004));
	assert_true(try_once(throttle, "bob", "10.0.0.1", true, 1004));
	throttle_free(&throttle);
}

static void whoever_ends_a_try_ends_the_one_that_began(void **state)
{
	(void)state;
	struct throttle *throttle = throttle_new();
	for (int i = 0; i < 100; i++) { /* the address becomes alice's while a try runs, and is forgotten while another does */
		double now = 1000 + 200.0 * i;
		enum throttle_account before = throttle_begin(throttle, &limits, "alice", "10.0.0.1", now);
		assert_int_equal(before, THROTTLE_USER);
		assert_true(try_once(throttle, "alice", "10.0.0.1", true, now));
		enum throttle_account after = throttle_begin(throttle, &limits, "alice", "10.0.0.1", now);
		assert_int_equal(after, THROTTLE_HOME);
		throttle_end(throttle, &limits, before, "alice", "10.0.0.1", false, now);
		throttle_end(throttle, &limits, after, "alice", "10.0.0.1", false, now + 150);
	}
	throttle_free(&throttle);
}

static const struct settings_login by_prefix = { .address_tries = 5, .prefix_tries = 12, .trusted_time = 100 };

static bool try_prefix(struct throttle *throttle, const char *address, bool success, double now)
{
	static unsigned count;
	char user[16];
	snprintf(user, sizeof(user), "u%u", count++);
	enum throttle_account account = throttle_begin(throttle, &by_prefix, user, address, now);
	if (account != THROTTLE_REFUSED) {
		throttle_end(throttle, &by_prefix, account, user, address, success, now);
	}
	return account != THROTTLE_REFUSED;
}

/* FORMAT's addresses, one failure each, until the prefix is refused; others are not. */
static void fill_prefix(struct throttle *throttle, const char *const addresses[12], const char *next, const char *other)
{
	for (int i = 0; i < 12; i++) {
		assert_true(try_prefix(throttle, addresses[i], false, 1001));
	}
	struct stk_auth_limit limit;
	throttle_ask(throttle, &by_prefix, NULL, next, 1011, &limit);
	assert_true(limit.refused_for == 50);
	assert_false(try_prefix(throttle, next, true, 1011));
	assert_true(try_prefix(throttle, other, true, 1011));
	throttle_ask(throttle, &by_prefix, NULL, other, 1011, &limit);
	assert_true(limit.refused_for == 0);
}

static void a_prefix_is_refused_whichever_of_its_addresses_tries(void **state)
{
	(void)state;
	static const char *const v4[12] = { "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6",
		"10.0.0.7", "10.0.0.8", "10.0.0.9", "10.0.0.10", "10.0.0.255", "10.0.0.0" };
	static const char *const v6[12] = { "2001:db8:1:1::/64", "2001:db8:1:2::/64", "2001:db8:1:3::/64", "2001:db8:1:4::/64",
		"2001:db8:1:5::/64", "2001:db8:1:6::/64", "2001:db8:1:7::/64", "2001:db8:1:8::/64", "2001:db8:1:9::/64",
		"2001:db8:1:a::/64", "2001:db8:1:ffff::/64", "2001:db8:1::/64" };
	struct throttle *throttle = throttle_new();
	fill_prefix(throttle, v4, "10.0.0.77", "10.0.1.77");
	fill_prefix(throttle, v6, "2001:db8:1:b::/64", "2001:db8:2:b::/64");
	assert_true(try_prefix(throttle, "10.0.0.77", true, 1062));
	throttle_free(&throttle);
}

static void an_address_that_logged_in_is_not_refused_for_its_neighbours(void **state)
{
	(void)state;
	struct throttle *throttle = throttle_new();
	struct stk_auth_limit limit;
	char address[16];
	assert_true(try_prefix(throttle, "10.0.0.200", true, 1000));
	for (int i = 0; i < 12; i++) {
		snprintf(address, sizeof(address), "10.0.0.%d", i);
		assert_true(try_prefix(throttle, address, false, 1000));
	}
	assert_false(try_prefix(throttle, "10.0.0.201", true, 1001));
	assert_true(try_prefix(throttle, "10.0.0.200", true, 1001));
	throttle_ask(throttle, &by_prefix, NULL, "10.0.0.200", 1001, &limit);
	assert_true(limit.refused_for == 0);
	throttle_free(&throttle);
}

static void failures_spread_over_time_do_not_add_up(void **state)
{
	(void)state;
	struct throttle *throttle = throttle_new();
	for (int i = 0; i < 20; i++) {
		assert_true(try_once(throttle, "alice", "10.0.0.1", false, 1000 + 40 * i));
	}
	throttle_free(&throttle);
}

static void tries_under_way_are_bounded_too(void **state)
{
	(void)state;
	struct throttle *throttle = throttle_new();
	int allowed = 0;
	for (int i = 0; i < 50; i++) {
		allowed += throttle_begin(throttle, &limits, "alice", "10.0.0.1", 1000) != THROTTLE_REFUSED;
	}
	assert_int_equal(allowed, 6);
	throttle_free(&throttle);
}

static void addresses_are_counted_without_port_and_ipv6_by_prefix(void **state)
{
	(void)state;
	char out[64];
	throttle_address("10.0.0.1:5202", out, sizeof(out));
	assert_string_equal(out, "10.0.0.1");
	throttle_address("[2001:db8:1:2:3:4:5:6]:99", out, sizeof(out));
	assert_string_equal(out, "2001:db8:1:2::/64");
}

static void how_a_user_or_an_address_stands_can_be_asked(void **state)
{
	(void)state;
	struct throttle *throttle = throttle_new();
	struct stk_auth_limit limit;
	throttle_ask(throttle, &limits, "alice", NULL, 1000, &limit);
	assert_int_equal(limit.tries, 3);
	assert_int_equal(limit.failures, 0);
	try_once(throttle, "alice", "10.0.0.1", false, 1000);
	try_once(throttle, "alice", "10.0.0.1", false, 1010);
	throttle_ask(throttle, &limits, "alice", NULL, 1020, &limit);
	assert_int_equal(limit.failures, 2);
	assert_true(limit.refused_for == 0);
	throttle_ask(throttle, &limits, NULL, "10.0.0.1", 1020, &limit);
	assert_int_equal(limit.failures, 2);
	assert_int_equal(limit.tries, 5);
	try_once(throttle, "alice", "10.0.0.1", false, 1020);
	throttle_ask(throttle, &limits, "alice", NULL, 1030, &limit);
	assert_true(limit.refused_for == 50);
	throttle_ask(throttle, &limits, "alice", NULL, 1081, &limit);
	assert_true(limit.refused_for == 0);
	assert_int_equal(limit.failures, 0);
	try_once(throttle, "bob", "10.0.0.1", true, 1100);
	throttle_ask(throttle, &limits, NULL, "10.0.0.1", 1100, &limit);
	assert_true(limit.trusted);
	throttle_free(&throttle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_user_is_refused_after_as_many_failures_as_allowed_and_again_free_later),
		cmocka_unit_test(an_address_is_refused_whoever_is_tried),
		cmocka_unit_test(an_address_that_logged_in_may_fail_ten_times_as_often),
		cmocka_unit_test(a_user_is_let_in_at_home_whatever_is_tried_elsewhere),
		cmocka_unit_test(whoever_ends_a_try_ends_the_one_that_began),
		cmocka_unit_test(a_prefix_is_refused_whichever_of_its_addresses_tries),
		cmocka_unit_test(an_address_that_logged_in_is_not_refused_for_its_neighbours),
		cmocka_unit_test(failures_spread_over_time_do_not_add_up),
		cmocka_unit_test(tries_under_way_are_bounded_too),
		cmocka_unit_test(addresses_are_counted_without_port_and_ipv6_by_prefix),
		cmocka_unit_test(how_a_user_or_an_address_stands_can_be_asked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
