/* SPDX-License-Identifier: MIT */
/* Text as the protocol has it: UTF-8, and numbers in decimal digits. Every message is full of both, so they are read
 * without the C library's regard for locales and formats. */

#include "proto/text.h"

#include <string.h>
#include <unistr.h>

#define HIGH_BITS UINT64_C(0x8080808080808080)

bool text_is_utf8(const void *text, size_t n)
{
	const uint8_t *bytes = text;
	uint64_t word;
	/* ASCII, which ids and addresses are, eight bytes at a time */
	for (; n >= sizeof(word); bytes += sizeof(word), n -= sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		if (word & HIGH_BITS) {
			break;
		}
	}
	return !u8_check(bytes, n);
}

bool number_parse(const char *text, int64_t min, int64_t max, int64_t *number)
{
	bool negative = text && *text == '-';
	const char *digits = negative ? text + 1 : text;
	uint64_t sum = 0, most = (uint64_t)INT64_MAX + negative;
	if (!digits || !*digits) {
		return false;
	}
	/* up to 18 digits need no look at how much there is room for */
	for (size_t i = 0; i < 18 && *digits >= '0' && *digits <= '9'; i++, digits++) {
		sum = sum * 10 + (uint64_t)(*digits - '0');
	}
	for (; *digits; digits++) {
		uint64_t digit = (uint64_t)(*digits - '0');
		if (*digits < '0' || *digits > '9' || sum > (most - digit) / 10) {
			return false;
		}
		sum = sum * 10 + digit;
	}
	int64_t value = negative && sum ? -(int64_t)(sum - 1) - 1 : (int64_t)sum;
	if (value < min || value > max) {
		return false;
	}
	*number = value;
	return true;
}

size_t number_print(int64_t number, char *out)
{
	char digits[NUMBER_ROOM];
	size_t at = sizeof(digits);
	uint64_t rest = number < 0 ? -(uint64_t)number : (uint64_t)number;
	do {
		digits[--at] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest);
	if (number < 0) {
		digits[--at] = '-';
	}
	memcpy(out, digits + at, sizeof(digits) - at);
	out[sizeof(digits) - at] = '\0';
	return sizeof(digits) - at;
}
