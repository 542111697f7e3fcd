/* SPDX-License-Identifier: MIT */
#ifndef STK_PROTO_TEA_H
#define STK_PROTO_TEA_H

#include <stddef.h>
#include <stdint.h>

/* TEA as the protocol has it: key of zeros, 32 rounds, blocks of 8 bytes read as two big-endian words; the last N % 8
 * bytes are copied as they are. IN and OUT, N bytes each, may be the same. */
void tea_encrypt(const uint8_t *in, size_t n, uint8_t *out);
void tea_decrypt(const uint8_t *in, size_t n, uint8_t *out);

/* For tests: as on a machine without vectors of more than BYTES; 16 is the least. */
void tea_limit_width(size_t bytes);

#endif
