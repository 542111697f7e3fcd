/* SPDX-License-Identifier: MIT */
/* The Tiny Encryption Algorithm with the protocol's fixed key, many blocks at a time. It hides small frames from a
 * casual look and is no security, so nothing here is kept secret or runs in constant time on purpose. */

#include "proto/tea.h"

#include <string.h>

#define TEA_DELTA 0x9e3779b9u
#define TEA_ROUNDS 32
#define TEA_BLOCK 8
#define LANES 4   /* blocks in a vector; 128 bits are what every machine has */
#define VECTORS 8 /* a batch of 32 blocks: any frame that is sent with TEA fits into one */

/* A round waits for the one before it, so that a block alone leaves most of the machine idle. The blocks know nothing
 * of each other: a batch takes each round for all of them before the next. */
typedef uint32_t vector __attribute__((vector_size(LANES * sizeof(uint32_t))));

union words {
	vector vectors[VECTORS];
	uint32_t words[VECTORS * LANES];
};

/* Blocks by their first and their second words. */
struct batch {
	union words y, z;
	size_t blocks, vectors;
};

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

/* Fills BATCH with blocks of the N bytes IN, at least one; returns how many bytes they are. */
static size_t get_batch(struct batch *batch, const uint8_t *in, size_t n)
{
	size_t blocks = n / TEA_BLOCK < VECTORS * LANES ? n / TEA_BLOCK : VECTORS * LANES;
	batch->blocks = blocks;
	batch->vectors = (blocks + LANES - 1) / LANES;
	batch->y.vectors[batch->vectors - 1] = batch->z.vectors[batch->vectors - 1] = (vector){ 0 };
	for (size_t i = 0; i < blocks; i++) {
		batch->y.words[i] = get_word(in + i * TEA_BLOCK);
		batch->z.words[i] = get_word(in + i * TEA_BLOCK + 4);
	}
	return blocks * TEA_BLOCK;
}

static void put_batch(const struct batch *batch, uint8_t *out)
{
	for (size_t i = 0; i < batch->blocks; i++) {
		put_word(out + i * TEA_BLOCK, batch->y.words[i]);
		put_word(out + i * TEA_BLOCK + 4, batch->z.words[i]);
	}
}

/* One half round; the key's words are zero and so do not show. */
static inline vector mix(vector word, uint32_t sum)
{
	return (word << 4) ^ (word + sum) ^ (word >> 5);
}

static void copy_tail(const uint8_t *in, size_t n, uint8_t *out)
{
	if (in != out && n) {
		memcpy(out, in, n);
	}
}

void tea_encrypt(const uint8_t *in, size_t n, uint8_t *out)
{
	struct batch batch;
	for (size_t size; n >= TEA_BLOCK; in += size, out += size, n -= size) {
		size = get_batch(&batch, in, n);
		uint32_t sum = 0;
		for (int round = 0; round < TEA_ROUNDS; round++) {
			sum += TEA_DELTA;
			for (size_t i = 0; i < batch.vectors; i++) {
				vector y = batch.y.vectors[i], z = batch.z.vectors[i];
				y += mix(z, sum);
				batch.y.vectors[i] = y;
				batch.z.vectors[i] = z + mix(y, sum);
			}
		}
		put_batch(&batch, out);
	}
	copy_tail(in, n, out);
}

void tea_decrypt(const uint8_t *in, size_t n, uint8_t *out)
{
	struct batch batch;
	for (size_t size; n >= TEA_BLOCK; in += size, out += size, n -= size) {
		size = get_batch(&batch, in, n);
		uint32_t sum = TEA_DELTA * TEA_ROUNDS;
		for (int round = 0; round < TEA_ROUNDS; round++) {
			for (size_t i = 0; i < batch.vectors; i++) {
				vector y = batch.y.vectors[i], z = batch.z.vectors[i];
				z -= mix(y, sum);
				batch.z.vectors[i] = z;
				batch.y.vectors[i] = y - mix(z, sum);
			}
			sum -= TEA_DELTA;
		}
		put_batch(&batch, out);
	}
	copy_tail(in, n, out);
}
