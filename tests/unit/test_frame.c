/* SPDX-License-Identifier: MIT */
/* Frames: the length prefix, the three ways in which a ProtoHeader holds its message, and what is wrong with others. */

#include <zlib.h>

#include "proto/frame.h"
#include "tests/unit/codec_help.h"

struct opened {
	int rc;
	struct frame_room *room;
	const uint8_t *msg;
	size_t len;
	const char *why;
};

static struct opened open_header(const void *in, size_t n, size_t limit)
{
	struct opened opened = { .room = malloc(sizeof(*opened.room)) };
	assert_non_null(opened.room);
	opened.room->large = NULL;
	opened.rc = frame_open(in, n, limit, opened.room, &opened.msg, &opened.len, &opened.why);
	return opened;
}

static void close_header(struct opened *opened)
{
	free(opened->room->large);
	free(opened->room);
}

static void assert_broken(const void *in, size_t n, const char *why)
{
	struct opened opened = open_header(in, n, LIMIT);
	assert_int_equal(opened.rc, -EBADMSG);
	assert_string_equal(opened.why, why);
	close_header(&opened);
}

/* options OPTION and MESSAGE as a ProtoHeader */
static void put_header(struct buf *out, uint8_t option, const uint8_t *message, size_t n)
{
	uint8_t head[8] = { 0x10, option, 0x32 };
	size_t len = 3, rest = n;
	for (; rest >= 0x80; rest >>= 7) {
		head[len++] = (uint8_t)(rest | 0x80);
	}
	head[len++] = (uint8_t)rest;
	assert_int_equal(buf_append(out, head, len), 0);
	assert_int_equal(buf_append(out, message, n), 0);
}

static uint8_t *gzip(const uint8_t *in, size_t n, size_t *len)
{
	z_stream z = { 0 };
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	size_t bound = deflateBound(&z, n);
	uint8_t *out = malloc(bound);
	assert_non_null(out);
	z.next_in = (uint8_t *)(uintptr_t)in;
	z.avail_in = (uInt)n;
	z.next_out = out;
	z.avail_out = (uInt)bound;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	*len = z.total_out;
	deflateEnd(&z);
	return out;
}

static void prefix_takes_one_to_four_bytes(void **state)
{
	(void)state;
	size_t len = 0;
	assert_int_equal(frame_prefix((const uint8_t *)"\x00", 1, &len), 1);
	assert_int_equal(len, 0);
	assert_int_equal(frame_prefix((const uint8_t *)"\x7f", 1, &len), 1);
	assert_int_equal(len, 127);
	assert_int_equal(frame_prefix((const uint8_t *)"\x80\x01rest", 6, &len), 2);
	assert_int_equal(len, 128);
	assert_int_equal(frame_prefix((const uint8_t *)"\xff\xff\x7f", 3, &len), 3);
	assert_int_equal(len, 2097151);
	assert_int_equal(frame_prefix((const uint8_t *)"\xff\xff\xff\x7f", 4, &len), 4);
	assert_int_equal(len, 268435455);
}

static void unfinished_prefix_asks_for_more_and_a_fifth_byte_is_refused(void **state)
{
	(void)state;
	size_t len = 0;
	assert_int_equal(frame_prefix((const uint8_t *)"", 0, &len), 0);
	assert_int_equal(frame_prefix((const uint8_t *)"\xff", 1, &len), 0);
	assert_int_equal(frame_prefix((const uint8_t *)"\xff\xff\xff", 3, &len), 0);
	assert_int_equal(frame_prefix((const uint8_t *)"\xff\xff\xff\xff", 4, &len), -EBADMSG);
	assert_int_equal(frame_prefix((const uint8_t *)"\x80\x80\x80\x80\x00", 5, &len), -EBADMSG);
}

static void what_is_wrapped_opens_again_at_every_size(void **state)
{
	(void)state;
	for (size_t n = 0; n < 5000; n += n < 300 ? 1 : 111) {
		uint8_t *msg = malloc(n + 1);
		assert_non_null(msg);
		for (size_t i = 0; i < n; i++) {
			msg[i] = (uint8_t)(i * i >> 3);
		}
		struct buf frame = { 0 };
		size_t len;
		assert_int_equal(frame_wrap(msg, n, &frame), 0);
		int prefix = frame_prefix(buf_data(&frame), frame.len, &len);
		assert_int_equal(len, frame.len - (size_t)prefix);
		assert_int_equal(buf_data(&frame)[prefix + 1], n <= FRAME_TEA_MAX ? 5 : 1);
		struct opened opened = open_header(buf_data(&frame) + prefix, len, n);
		assert_int_equal(opened.rc, 0);
		assert_int_equal(opened.len, n);
		assert_memory_equal(opened.msg, msg, n);
		close_header(&opened);
		buf_fini(&frame);
		free(msg);
	}
}

/* Up to half a kilobyte they are only stored, from then on they shrink. */
static void gzip_costs_little_where_it_wins_nothing(void **state)
{
	(void)state;
	for (size_t n = 201; n < 2000; n++) {
		uint8_t *msg = malloc(n);
		assert_non_null(msg);
		memset(msg, 'a', n);
		struct buf frame = { 0 };
		assert_int_equal(frame_wrap(msg, n, &frame), 0);
		assert_true(frame.len <= (n > 512 ? 64 : n + 23 + 7));
		buf_fini(&frame);
		free(msg);
	}
}

static void frames_are_appended_one_behind_the_other(void **state)
{
	(void)state;
	struct buf out = { 0 };
	size_t first;
	assert_int_equal(frame_wrap((const uint8_t *)"one", 3, &out), 0);
	first = out.len;
	assert_int_equal(frame_wrap((const uint8_t *)"three", 5, &out), 0);
	struct opened opened = open_header(buf_data(&out) + first + 1, out.len - first - 1, LIMIT);
	assert_int_equal(opened.rc, 0);
	assert_memory_equal(opened.msg, "three", 5);
	close_header(&opened);
	buf_fini(&out);
}

static void unknown_options_are_plain(void **state)
{
	(void)state;
	const char *const headers[] = { "\x32\x02hi", "\x10\x00\x32\x02hi", "\x10\x02\x32\x02hi",
					"\x32\x02hi\x10\x63" };
	for (size_t i = 0; i < COUNT(headers); i++) {
		size_t n = i == 0 ? 4 : 6;
		struct opened opened = open_header(headers[i], n, LIMIT);
		assert_int_equal(opened.rc, 0);
		assert_int_equal(opened.len, 2);
		assert_memory_equal(opened.msg, "hi", 2);
		close_header(&opened);
	}
}

static void last_of_doubled_fields_wins_and_others_are_skipped(void **state)
{
	(void)state;
	/* version, options 1 and then 0, optionlist packed, content, two messages, an unknown field */
	const char header[] = "\x08\x01\x10\x01\x10\x00\x1a\x02\x01\x02\x2a\x01x\x32\x02no\x32\x03yes\x7a\x00";
	struct opened opened = open_header(header, sizeof(header) - 1, LIMIT);
	assert_int_equal(opened.rc, 0);
	assert_int_equal(opened.len, 3);
	assert_memory_equal(opened.msg, "yes", 3);
	close_header(&opened);
}

static void broken_headers_are_named(void **state)
{
	(void)state;
	assert_broken("", 0, "ProtoHeader without message");
	assert_broken("\x10\x05", 2, "ProtoHeader without message");
	assert_broken("\xff\xff\xff\xff", 4, "malformed protobuf");
	assert_broken("\x32\x05hi", 4, "malformed protobuf");
	assert_broken("\x33\x34", 2, "malformed protobuf");
	assert_broken("\x02\x00", 2, "malformed protobuf");
	assert_broken("\x30\x05", 2, "field of the wrong type");
	assert_broken("\x12\x01x\x32\x00", 5, "field of the wrong type");
	assert_broken("\x1a\x02\x01\x80\x32\x00", 6, "field of the wrong type");
	assert_broken("\x2a\x01\xff\x32\x00", 5, "text is not UTF-8");
}

static void damaged_gzip_is_broken(void **state)
{
	(void)state;
	uint8_t msg[3000];
	size_t len;
	for (size_t i = 0; i < sizeof(msg); i++) {
		msg[i] = (uint8_t)(i * 7 % 251);
	}
	uint8_t *gz = gzip(msg, sizeof(msg), &len);
	for (size_t cut = 0; cut < len; cut++) {
		struct buf header = { 0 };
		put_header(&header, 1, gz, cut);
		struct opened opened = open_header(buf_data(&header), header.len, LIMIT);
		assert_true(opened.rc == -EBADMSG || opened.rc == -EMSGSIZE);
		close_header(&opened);
		buf_fini(&header);
	}
	uint8_t *longer = malloc(len + 1);
	assert_non_null(longer);
	memcpy(longer, gz, len);
	longer[len] = 0;
	struct buf header = { 0 };
	put_header(&header, 1, longer, len + 1); /* a byte behind the stream */
	assert_broken(buf_data(&header), header.len, "bad gzip");
	header.len = 0;
	longer[len - 6] ^= 1; /* CRC */
	put_header(&header, 1, longer, len);
	assert_broken(buf_data(&header), header.len, "bad gzip");
	header.len = 0;
	longer[len - 6] ^= 1;
	longer[len - 4] ^= 1; /* size */
	put_header(&header, 1, longer, len);
	assert_broken(buf_data(&header), header.len, "bad gzip");
	header.len = 0;
	put_header(&header, 1, (const uint8_t *)"notgzip", 7);
	assert_broken(buf_data(&header), header.len, "bad gzip");
	buf_fini(&header);
	free(longer);
	free(gz);
}

static void two_gzip_streams_are_broken(void **state)
{
	(void)state;
	size_t len;
	uint8_t *gz = gzip((const uint8_t *)"hello", 5, &len), *both = malloc(2 * len);
	assert_non_null(both);
	memcpy(both, gz, len);
	memcpy(both + len, gz, len);
	struct buf header = { 0 };
	put_header(&header, 1, both, 2 * len);
	assert_broken(buf_data(&header), header.len, "bad gzip");
	buf_fini(&header);
	free(both);
	free(gz);
}

static void bomb_stops_at_the_limit_and_a_lying_one_is_broken(void **state)
{
	(void)state;
	size_t n = 64 * 1024 * 1024, len;
	uint8_t *zeros = calloc(1, n);
	assert_non_null(zeros);
	uint8_t *gz = gzip(zeros, n, &len);
	free(zeros);
	struct buf header = { 0 };
	put_header(&header, 1, gz, len);
	struct opened opened = open_header(buf_data(&header), header.len, LIMIT);
	assert_int_equal(opened.rc, -EMSGSIZE);
	assert_string_equal(opened.why, "inflates past the limit");
	assert_null(opened.room->large); /* nothing was taken for it */
	close_header(&opened);
	const uint8_t small[4] = { 10, 0, 0, 0 };
	memcpy(gz + len - 4, small, 4);
	header.len = 0;
	put_header(&header, 1, gz, len);
	assert_broken(buf_data(&header), header.len, "bad gzip");
	buf_fini(&header);
	free(gz);
}

static void small_stream_cannot_ask_for_much_memory(void **state)
{
	(void)state;
	size_t len;
	uint8_t *gz = gzip((const uint8_t *)"hello", 5, &len);
	const uint8_t size[4] = { 0, 0, 16, 0 }; /* 1 MiB out of 25 bytes */
	memcpy(gz + len - 4, size, 4);
	struct buf header = { 0 };
	put_header(&header, 1, gz, len);
	struct opened opened = open_header(buf_data(&header), header.len, LIMIT);
	assert_int_equal(opened.rc, -EBADMSG);
	assert_null(opened.room->large);
	close_header(&opened);
	buf_fini(&header);
	free(gz);
}

static void limit_holds_for_every_option(void **state)
{
	(void)state;
	uint8_t msg[1000];
	size_t len;
	memset(msg, 'a', sizeof(msg));
	uint8_t *gz = gzip(msg, sizeof(msg), &len);
	const struct {
		uint8_t option;
		const uint8_t *data;
		size_t n;
	} ways[] = { { 0, msg, sizeof(msg) }, { 5, msg, sizeof(msg) }, { 1, gz, len } };
	for (size_t i = 0; i < COUNT(ways); i++) {
		struct buf header = { 0 };
		put_header(&header, ways[i].option, ways[i].data, ways[i].n);
		struct opened under = open_header(buf_data(&header), header.len, 999);
		struct opened at = open_header(buf_data(&header), header.len, 1000);
		assert_int_equal(under.rc, -EMSGSIZE);
		assert_int_equal(at.rc, 0);
		assert_int_equal(at.len, 1000);
		close_header(&under);
		close_header(&at);
		buf_fini(&header);
	}
	free(gz);
}

static void frame_of_two_mebibytes_is_not_made(void **state)
{
	(void)state;
	size_t n = 3 * 1024 * 1024;
	uint8_t *noise = malloc(n);
	assert_non_null(noise);
	uint32_t seed = 1;
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		noise[i] = (uint8_t)(seed >> 24);
	}
	struct buf out = { 0 };
	assert_int_equal(frame_wrap(noise, n, &out), -EMSGSIZE);
	assert_int_equal(out.len, 0);
	assert_int_equal(frame_wrap(noise, 2 * 1024 * 1024 - 2000, &out), 0);
	assert_true(out.len < 2 * 1024 * 1024);
	buf_fini(&out);
	free(noise);
}

static void state_of_a_thread_survives_errors_and_can_be_freed(void **state)
{
	(void)state;
	frame_thread_fini();
	frame_thread_fini();
	uint8_t msg[600] = { 0 };
	for (int i = 0; i < 3; i++) {
		struct buf frame = { 0 };
		assert_broken("\x10\x01\x32\x09notgzip!!", 13, "bad gzip");
		assert_int_equal(frame_wrap(msg, sizeof(msg), &frame), 0);
		struct opened opened = open_header(buf_data(&frame) + 1, frame.len - 1, LIMIT);
		assert_int_equal(opened.rc, 0);
		assert_int_equal(opened.len, sizeof(msg));
		close_header(&opened);
		buf_fini(&frame);
	}
}

static int fini(void **state)
{
	(void)state;
	frame_thread_fini();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prefix_takes_one_to_four_bytes),
		cmocka_unit_test(unfinished_prefix_asks_for_more_and_a_fifth_byte_is_refused),
		cmocka_unit_test(what_is_wrapped_opens_again_at_every_size),
		cmocka_unit_test(gzip_costs_little_where_it_wins_nothing),
		cmocka_unit_test(frames_are_appended_one_behind_the_other),
		cmocka_unit_test(unknown_options_are_plain),
		cmocka_unit_test(last_of_doubled_fields_wins_and_others_are_skipped),
		cmocka_unit_test(broken_headers_are_named),
		cmocka_unit_test(damaged_gzip_is_broken),
		cmocka_unit_test(two_gzip_streams_are_broken),
		cmocka_unit_test(bomb_stops_at_the_limit_and_a_lying_one_is_broken),
		cmocka_unit_test(small_stream_cannot_ask_for_much_memory),
		cmocka_unit_test(limit_holds_for_every_option),
		cmocka_unit_test(frame_of_two_mebibytes_is_not_made),
		cmocka_unit_test(state_of_a_thread_survives_errors_and_can_be_freed),
	};
	return cmocka_run_group_tests(tests, NULL, fini);
}
