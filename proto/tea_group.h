/* SPDX-License-Identifier: MIT */
/* TEA of a group of blocks that stays in registers: two vectors of their first words, two of their second. Included by
 * tea.c for each size of vectors, with NAME(), BYTES of a vector and TARGET defined; hence no guard. */

typedef uint32_t NAME(lanes) __attribute__((vector_size(BYTES)));
typedef uint64_t NAME(blocks) __attribute__((vector_size(BYTES)));

struct NAME(words) {
	NAME(lanes) y0, z0, y1, z1;
};

/* Two vectors of blocks become one of the words that are first in memory and one of the others. */
static inline TARGET void NAME(load)(struct NAME(words) *words, const uint8_t *in)
{
	NAME(blocks) raw[4];
	memcpy(raw, in, sizeof(raw));
	words->y0 = SWAP((NAME(lanes))FIRST(raw[0], raw[1]));
	words->z0 = SWAP((NAME(lanes))SECOND(raw[0], raw[1]));
	words->y1 = SWAP((NAME(lanes))FIRST(raw[2], raw[3]));
	words->z1 = SWAP((NAME(lanes))SECOND(raw[2], raw[3]));
}

static inline TARGET void NAME(store)(const struct NAME(words) *words, uint8_t *out)
{
	NAME(blocks) y0 = (NAME(blocks))SWAP(words->y0), z0 = (NAME(blocks))SWAP(words->z0);
	NAME(blocks) y1 = (NAME(blocks))SWAP(words->y1), z1 = (NAME(blocks))SWAP(words->z1);
	const NAME(blocks) raw[4] = { FRONT(y0, z0), BACK(y0, z0), FRONT(y1, z1), BACK(y1, z1) };
	memcpy(out, raw, sizeof(raw));
}

static TARGET void NAME(encrypt)(const uint8_t *in, uint8_t *out)
{
	struct NAME(words) words;
	NAME(load)(&words, in);
	uint32_t sum = 0;
	for (int round = 0; round < TEA_ROUNDS; round++) {
		sum += TEA_DELTA;
		words.y0 += MIX(words.z0, sum);
		words.y1 += MIX(words.z1, sum);
		words.z0 += MIX(words.y0, sum);
		words.z1 += MIX(words.y1, sum);
	}
	NAME(store)(&words, out);
}

static TARGET void NAME(decrypt)(const uint8_t *in, uint8_t *out)
{
	struct NAME(words) words;
	NAME(load)(&words, in);
	uint32_t sum = TEA_DELTA * TEA_ROUNDS;
	for (int round = 0; round < TEA_ROUNDS; round++) {
		words.z0 -= MIX(words.y0, sum);
		words.z1 -= MIX(words.y1, sum);
		words.y0 -= MIX(words.z0, sum);
		words.y1 -= MIX(words.z1, sum);
		sum -= TEA_DELTA;
	}
	NAME(store)(&words, out);
}
