/* SPDX-License-Identifier: MIT */
/* The Tiny Encryption Algorithm with the protocol's fixed key, many blocks at a time. It hides small frames from a
 * casual look and is no security, so nothing here is kept secret or runs in constant time on purpose. */

#include "proto/tea.h"

#include <string.h>

#define TEA_DELTA 0x9e3779b9u
#define TEA_ROUNDS 32
#define TEA_BLOCK 8

/* A round waits for the one before it, so that a block alone leaves most of the machine idle. The blocks know nothing
 * of each other: a group of them takes each round together. */

/* One half round; the key's words are zero and so do not show. */
#define MIX(word, sum) (((word) << 4) ^ ((word) + (sum)) ^ ((word) >> 5))

#define LOW_WORDS UINT64_C(0xffffffff)

/* A and B are vectors of blocks; the second words lie in the upper halves on a machine whose numbers begin with what
 * is least. There the words are to be turned round too. */
#define LOW_OF(a, b) (((a) & LOW_WORDS) | ((b) << 32))
#define HIGH_OF(a, b) (((a) >> 32) | ((b) & ~LOW_WORDS))
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SWAP(word) ((word) << 24 | ((word) & 0xff00) << 8 | ((word) >> 8 & 0xff00) | (word) >> 24)
#define FIRST LOW_OF
#define SECOND HIGH_OF
#define FRONT(y, z) LOW_OF(y, z)
#define BACK(y, z) HIGH_OF(y, z)
#else
#define SWAP(word) (word)
#define FIRST HIGH_OF
#define SECOND LOW_OF
#define FRONT(y, z) LOW_OF(z, y)
#define BACK(y, z) HIGH_OF(z, y)
#endif

#define VECTORS 4 /* in a group */
#define GROUP_MAX (VECTORS * 64)

#define NAME(what) narrow_##what
#define BYTES 16 /* what every machine has */
#define TARGET
#include "proto/tea_group.h"
#undef NAME
#undef BYTES
#undef TARGET

#if defined(__x86_64__)
#define NAME(what) wide_##what
#define BYTES 32
#define TARGET __attribute__((target("avx2")))
#include "proto/tea_group.h"
#undef NAME
#undef BYTES
#undef TARGET

#define NAME(what) widest_##what
#define BYTES 64
#define TARGET __attribute__((target("avx512f,avx512bw")))
#include "proto/tea_group.h"
#undef NAME
#undef BYTES
#undef TARGET
#endif

static const struct cipher {
	size_t bytes; /* of a vector */
	void (*encrypt)(const uint8_t *in, uint8_t *out);
	void (*decrypt)(const uint8_t *in, uint8_t *out);
} narrow = { 16, narrow_encrypt, narrow_decrypt };

static size_t widest_allowed = SIZE_MAX;

void tea_limit_width(size_t bytes)
{
	widest_allowed = bytes;
}

/* For N bytes: what does not fill half of the widest group is done in no more time by the next. */
static const struct cipher *best_cipher(size_t n)
{
#if defined(__x86_64__)
	static const struct cipher wide = { 32, wide_encrypt, wide_decrypt };
	static const struct cipher widest = { 64, widest_encrypt, widest_decrypt };
	if (n > VECTORS * wide.bytes && widest.bytes <= widest_allowed && __builtin_cpu_supports("avx512f") &&
	    __builtin_cpu_supports("avx512bw")) {
		return &widest;
	}
	if (wide.bytes <= widest_allowed && __builtin_cpu_supports("avx2")) {
		return &wide;
	}
#endif
	(void)n;
	return &narrow;
}

static void run(void (*each)(const uint8_t *, uint8_t *), size_t group, const uint8_t *in, size_t n, uint8_t *out)
{
	for (; n >= group; in += group, out += group, n -= group) {
		each(in, out);
	}
	size_t whole = n / TEA_BLOCK * TEA_BLOCK;
	if (whole) {
		uint8_t room[GROUP_MAX] = { 0 };
		memcpy(room, in, whole);
		each(room, room);
		memcpy(out, room, whole);
	}
	if (in != out && n > whole) {
		memcpy(out + whole, in + whole, n - whole);
	}
}

void tea_encrypt(const uint8_t *in, size_t n, uint8_t *out)
{
	const struct cipher *cipher = best_cipher(n);
	run(cipher->encrypt, VECTORS * cipher->bytes, in, n, out);
}

void tea_decrypt(const uint8_t *in, size_t n, uint8_t *out)
{
	const struct cipher *cipher = best_cipher(n);
	run(cipher->decrypt, VECTORS * cipher->bytes, in, n, out);
}
