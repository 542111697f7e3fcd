/* SPDX-License-Identifier: MIT */
/* The Tiny Encryption Algorithm with the protocol's fixed key. It hides small frames from a casual look and is no
 * security, so nothing here is kept secret or runs in constant time on purpose. */

#include "proto/tea.h"

#include <string.h>

#define TEA_DELTA 0x9e3779b9u
#define TEA_ROUNDS 32
#define TEA_BLOCK 8

static uint32_t get_word(const uint8_t *in)
{
	return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
}

static void put_word(uint8_t *out, uint32_t word)
{
	out[0] = (uint8_t)(word >> 24);
	out[1] = (uint8_t)(word >> 16);
	out[2] = (uint8_t)(word >> 8);
	out[3] = (uint8_t)word;
}

/* One half round; the key's words are zero and so do not show. */
static uint32_t mix(uint32_t word, uint32_t sum)
{
	return (word << 4) ^ (word + sum) ^ (word >> 5);
}

static void copy_tail(const uint8_t *in, size_t n, uint8_t *out)
{
	size_t done = n - n % TEA_BLOCK;
	if (in != out && n > done) {
		memcpy(out + done, in + done, n - done);
	}
}

void tea_encrypt(const uint8_t *in, size_t n, uint8_t *out)
{
	for (size_t i = 0; i + TEA_BLOCK <= n; i += TEA_BLOCK) {
		uint32_t y = get_word(in + i), z = get_word(in + i + 4), sum = 0;
		for (int round = 0; round < TEA_ROUNDS; round++) {
			sum += TEA_DELTA;
			y += mix(z, sum);
			z += mix(y, sum);
		}
		put_word(out + i, y);
		put_word(out + i + 4, z);
	}
	copy_tail(in, n, out);
}

void tea_decrypt(const uint8_t *in, size_t n, uint8_t *out)
{
	for (size_t i = 0; i + TEA_BLOCK <= n; i += TEA_BLOCK) {
		uint32_t y = get_word(in + i), z = get_word(in + i + 4), sum = TEA_DELTA * TEA_ROUNDS;
		for (int round = 0; round < TEA_ROUNDS; round++) {
			z -= mix(y, sum);
			y -= mix(z, sum);
			sum -= TEA_DELTA;
		}
		put_word(out + i, y);
		put_word(out + i + 4, z);
	}
	copy_tail(in, n, out);
}
