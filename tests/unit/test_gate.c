/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/gate.h"

static const char *const trusted[] = { "127.0.0.0/8", "::1", "10.1.0.0/17", NULL };
static const struct settings_limits limits = {
	.max_per_address = 3, .max_waiting = 100000, .max_waiting_per_address = 2, .trusted_addresses = trusted,
};

static void an_address_has_so_many_without_login_and_so_many_in_all(void **state)
{
	(void)state;
	struct gate *gate = gate_new();
	assert_null(gate_enter(gate, &limits, "192.0.2.1:1000", 0));
	assert_null(gate_enter(gate, &limits, "192.0.2.1:1001", 0));
	assert_non_null(gate_enter(gate, &limits, "192.0.2.1:1002", 0));
	assert_null(gate_enter(gate, &limits, "192.0.2.2:1000", 0));
	gate_log_in(gate, "192.0.2.1:1000");
	assert_null(gate_enter(gate, &limits, "192.0.2.1:1003", 0));
	gate_log_in(gate, "192.0.2.1:1001");
	assert_non_null(gate_enter(gate, &limits, "192.0.2.1:1004", 0));
	assert_int_equal(gate_connections(gate, "192.0.2.1:1"), 3);
	assert_int_equal(gate_waiting(gate), 2);
	gate_leave(gate, "192.0.2.1:1000", true);
	assert_null(gate_enter(gate, &limits, "192.0.2.1:1005", 0));
	gate_free(&gate);
}

static void a_64_of_ipv6_is_one_address(void **state)
{
	(void)state;
	struct gate *gate = gate_new();
	assert_null(gate_enter(gate, &limits, "[2001:db8::1]:1000", 0));
	assert_null(gate_enter(gate, &limits, "[2001:db8::ffff:2]:1000", 0));
	assert_non_null(gate_enter(gate, &limits, "[2001:db8::3]:1000", 0));
	assert_null(gate_enter(gate, &limits, "[2001:db8:0:1::1]:1000", 0));
	gate_free(&gate);
}

static void trusted_networks_are_counted_but_not_refused(void **state)
{
	(void)state;
	static const char *const inside[] = { "127.0.0.1:1", "127.255.0.9:1", "[::1]:1", "10.1.127.255:1" };
	static const char *const outside[] = { "128.0.0.1:1", "126.255.255.255:1", "[::2:0:0:0:1]:1", "10.1.128.0:1" };
	struct gate *gate = gate_new();
	for (size_t i = 0; i < sizeof(inside) / sizeof(*inside); i++) {
		for (int n = 0; n < 10; n++) {
			assert_null(gate_enter(gate, &limits, inside[i], 0));
		}
		assert_int_equal(gate_connections(gate, inside[i]), 10);
		assert_null(gate_enter(gate, &limits, outside[i], 0));
		assert_null(gate_enter(gate, &limits, outside[i], 0));
		assert_non_null(gate_enter(gate, &limits, outside[i], 0));
	}
	gate_free(&gate);
}

static void what_has_no_address_counts_in_all_only(void **state)
{
	(void)state;
	struct settings_limits few = limits;
	few.max_waiting = 4;
	struct gate *gate = gate_new();
	for (int i = 0; i < 4; i++) {
		assert_null(gate_enter(gate, &few, "a pipe", 0));
	}
	assert_non_null(gate_enter(gate, &few, "192.0.2.1:1", 0));
	gate_leave(gate, "a pipe", false);
	assert_null(gate_enter(gate, &few, "192.0.2.1:1", 0));
	few.max_waiting = 0;
	assert_null(gate_enter(gate, &few, "192.0.2.1:1", 0));
	gate_free(&gate);
}

/* Against a plain count of each, with addresses that come and go in any order. */
static void counts_hold_however_many_addresses_come_and_go(void **state)
{
	(void)state;
	enum { ADDRESSES = 700, STEPS = 200000 };
	static unsigned connections[ADDRESSES], in[ADDRESSES];
	struct gate *gate = gate_new();
	struct settings_limits none = { 0 };
	char peer[32];
	size_t waiting = 0;
	srand(1);
	for (int step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)rand() % ADDRESSES;
		snprintf(peer, sizeof(peer), i % 2 ? "10.0.%u.%u:5" : "[2001:db8:%x:%x::1]:5", i / 256, i % 256);
		int what = rand() % 3;
		if (what == 0) {
			assert_null(gate_enter(gate, &none, peer, 0));
			connections[i]++;
			waiting++;
		} else if (what == 1 && in[i] < connections[i]) {
			gate_log_in(gate, peer);
			in[i]++;
			waiting--;
		} else if (what == 2 && connections[i]) {
			bool logged_in = in[i] > 0;
			gate_leave(gate, peer, logged_in);
			connections[i]--;
			in[i] -= logged_in;
			waiting -= !logged_in;
		}
		assert_int_equal(gate_connections(gate, peer), connections[i]);
		assert_int_equal(gate_waiting(gate), waiting);
	}
	gate_free(&gate);
}

static void networks_are_told_from_what_is_none(void **state)
{
	(void)state;
	static const char *const good[] = { "1.2.3.4", "1.2.3.4/32", "0.0.0.0/0", "::", "2001:db8::/32", "::1/128" };
	static const char *const bad[] = { "", "/8", "1.2.3", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "1.2.3.4/8x", "::1/129", "localhost", "[::1]" };
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_true(gate_is_network(good[i]));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_false(gate_is_network(bad[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_has_so_many_without_login_and_so_many_in_all),
		cmocka_unit_test(a_64_of_ipv6_is_one_address),
		cmocka_unit_test(trusted_networks_are_counted_but_not_refused),
		cmocka_unit_test(what_has_no_address_counts_in_all_only),
		cmocka_unit_test(counts_hold_however_many_addresses_come_and_go),
		cmocka_unit_test(networks_are_told_from_what_is_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
