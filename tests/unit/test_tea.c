/* SPDX-License-Identifier: MIT */
/* TEA against published values for a key of zeros and against one block after the other, and its handling of what is no
 * whole block. */

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/tea.h"

static void zero_block_has_the_known_cipher(void **state)
{
	(void)state;
	const uint8_t clear[8] = { 0 }, cipher[8] = { 0x41, 0xea, 0x3a, 0x0a, 0x94, 0xba, 0xa9, 0x40 };
	uint8_t out[8];
	tea_encrypt(clear, 8, out);
	assert_memory_equal(out, cipher, 8);
	tea_decrypt(out, 8, out);
	assert_memory_equal(out, clear, 8);
}

static void frame_of_a_client_is_undone(void **state)
{
	(void)state;
	/* StartTLS with options, from and to, as a client sends it */
	const uint8_t cipher[] = { 0xce, 0xa6, 0x8f, 0xf2, 0x28, 0xf4, 0xe1, 0xd5, 0xb8, 0x95, 0x31, 0x33, 0xd7, 0xc8,
				   0x96, 0x89, 0xae, 0x14, 0x67, 0x17, 0x99, 0xe7, 0x13, 0x57, 0x7c, 0x5a, 0xd3, 0xf1,
				   0x16, 0x6d, 0x52, 0x4a, 0x2b, 0x61, 0xcf, 0x7c, 0xd0, 0x71, 0xec, 0x24, 0x2a, 0x00 };
	const char clear[] = "\x08\x05\x10\x6a\x1a\x13"
			     "alice@startalk.tech\"\x0d"
			     "startalk.tech*"; /* and a zero */
	uint8_t out[sizeof(cipher)], back[sizeof(cipher)];
	assert_int_equal(sizeof(clear), sizeof(cipher));
	tea_decrypt(cipher, sizeof(cipher), out);
	tea_encrypt(out, sizeof(out), back);
	assert_memory_equal(out, clear, sizeof(clear));
	assert_memory_equal(back, cipher, sizeof(cipher));
}

static void tail_stays_clear_at_every_size(void **state)
{
	(void)state;
	for (size_t n = 0; n <= 40; n++) {
		uint8_t clear[40], cipher[40], back[40];
		for (size_t i = 0; i < n; i++) {
			clear[i] = (uint8_t)(i * 37 + n);
		}
		tea_encrypt(clear, n, cipher);
		assert_memory_equal(cipher + n / 8 * 8, clear + n / 8 * 8, n % 8);
		assert_true(n < 8 || memcmp(cipher, clear, 8) != 0);
		tea_decrypt(cipher, n, back);
		assert_memory_equal(back, clear, n);
	}
}

static void equal_blocks_have_equal_ciphers(void **state)
{
	(void)state;
	uint8_t data[16];
	memset(data, 'x', sizeof(data));
	tea_encrypt(data, sizeof(data), data); /* in place */
	assert_memory_equal(data, data + 8, 8);
	tea_decrypt(data, sizeof(data), data);
	assert_int_equal(data[0], 'x');
	assert_int_equal(data[15], 'x');
}

/* One block as the algorithm is described. */
static void encrypt_block(const uint8_t *in, uint8_t *out)
{
	uint32_t word[2] = { 0 }, sum = 0;
	for (int i = 0; i < 8; i++) {
		word[i / 4] = word[i / 4] << 8 | in[i];
	}
	for (int round = 0; round < 32; round++) {
		sum += 0x9e3779b9u;
		word[0] += (word[1] << 4) ^ (word[1] + sum) ^ (word[1] >> 5);
		word[1] += (word[0] << 4) ^ (word[0] + sum) ^ (word[0] >> 5);
	}
	for (int i = 0; i < 8; i++) {
		out[i] = (uint8_t)(word[i / 4] >> (24 - i % 4 * 8));
	}
}

static void fill(uint8_t *data, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		data[i] = (uint8_t)(seed >> 24);
	}
}

/* Memory of exactly N bytes, so that a sanitizer sees every step beside it. */
static uint8_t *take(size_t n)
{
	uint8_t *data = malloc(n ? n : 1);
	assert_non_null(data);
	return data;
}

static void assert_is_block_by_block(size_t n)
{
	uint8_t *clear = take(n), *wanted = take(n), *out = take(n);
	fill(clear, n, (uint32_t)n);
	memcpy(wanted, clear, n);
	for (size_t i = 0; i + 8 <= n; i += 8) {
		encrypt_block(clear + i, wanted + i);
	}
	tea_encrypt(clear, n, out);
	assert_memory_equal(out, wanted, n);
	tea_decrypt(wanted, n, out);
	assert_memory_equal(out, clear, n);
	tea_encrypt(out, n, out); /* in place */
	assert_memory_equal(out, wanted, n);
	tea_decrypt(out, n, out);
	assert_memory_equal(out, clear, n);
	free(clear);
	free(wanted);
	free(out);
}

static void many_blocks_at_a_time_are_the_same_as_one_by_one(void **state)
{
	(void)state;
	for (size_t n = 0; n <= 800; n++) {
		assert_is_block_by_block(n);
	}
	assert_is_block_by_block(1024 * 1024 + 5);
}

static void data_may_lie_at_any_address(void **state)
{
	(void)state;
	uint8_t clear[320], wanted[300], out[320];
	for (size_t at = 0; at < 17; at++) {
		fill(clear + at, 300, 1);
		tea_encrypt(clear + at, 300, out + 16 - at);
		for (size_t i = 0; i + 8 <= 300; i += 8) {
			encrypt_block(clear + at + i, wanted + i);
		}
		assert_memory_equal(out + 16 - at, wanted, 296);
		tea_decrypt(out + 16 - at, 300, clear);
		fill(wanted, 300, 1);
		assert_memory_equal(clear, wanted, 300);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zero_block_has_the_known_cipher),
		cmocka_unit_test(frame_of_a_client_is_undone),
		cmocka_unit_test(tail_stays_clear_at_every_size),
		cmocka_unit_test(equal_blocks_have_equal_ciphers),
		cmocka_unit_test(many_blocks_at_a_time_are_the_same_as_one_by_one),
		cmocka_unit_test(data_may_lie_at_any_address),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	tea_limit_width(32);
	failed += cmocka_run_group_tests_name("with vectors of 32 bytes at most", tests, NULL, NULL);
	tea_limit_width(16);
	return failed + cmocka_run_group_tests_name("with vectors of 16 bytes", tests, NULL, NULL);
}
