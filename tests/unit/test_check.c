/* SPDX-License-Identifier: MIT */
/* The check before protobuf-c: shape, text, depth and counts, and how much memory a frame can cost. */

#include "core/arena.h"
#include "proto/check.h"
#include "tests/unit/codec_help.h"

#define BODY (&startalk__message_body__descriptor)
#define MESSAGE (&startalk__xmpp_message__descriptor)

static const char *look(const ProtobufCMessageDescriptor *type, const void *in, size_t n)
{
	const char *why;
	uint8_t *exact = malloc(n ? n : 1);
	assert_non_null(exact);
	memcpy(exact, in, n);
	int rc = check_message(type, exact, n, &check_client, NULL, &why);
	free(exact);
	assert_int_equal(rc, why ? -EBADMSG : 0);
	return why ? why : "good";
}

#define LOOK(type, text) look(type, text, sizeof(text) - 1)

static void put(struct buf *out, const void *data, size_t n)
{
	assert_int_equal(buf_append(out, data, n), 0);
}

static void put_varint(struct buf *out, size_t value)
{
	uint8_t byte;
	for (; value >= 0x80; value >>= 7) {
		byte = (uint8_t)(value | 0x80);
		put(out, &byte, 1);
	}
	byte = (uint8_t)value;
	put(out, &byte, 1);
}

/* A field of bytes: its TAG in one byte, length and IN. */
static void put_bytes(struct buf *out, uint8_t tag, const void *in, size_t n)
{
	put(out, &tag, 1);
	put_varint(out, n);
	put(out, in, n);
}

/* A MessageBody with bodys within bodys, DEPTH messages in all. */
static void put_nested(struct buf *out, size_t depth)
{
	struct buf inner = { 0 };
	for (size_t i = 1; i < depth; i++) {
		struct buf outer = { 0 };
		put_bytes(&outer, 0x1a, inner.len ? buf_data(&inner) : (const uint8_t *)"", inner.len);
		buf_fini(&inner);
		inner = outer;
	}
	put(out, inner.len ? buf_data(&inner) : (const uint8_t *)"", inner.len);
	buf_fini(&inner);
}

static void well_formed_messages_pass(void **state)
{
	(void)state;
	assert_string_equal(LOOK(BODY, ""), "good");
	assert_string_equal(LOOK(BODY, "\x0a\x04\x1a\x02hi\x12\x00\x1a\x03\x12\x01x"), "good");
	assert_string_equal(LOOK(MESSAGE, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x18\x00"), "good");
	assert_string_equal(LOOK(BODY, "\x12\x0c\xe4\xb8\x96\xe7\x95\x8c\xf0\x9f\x8e\x89hi"), "good");
}

static void unknown_fields_of_every_type_are_skipped(void **state)
{
	(void)state;
	assert_string_equal(LOOK(BODY, "\x78\x01\x79"
				       "12345678\x7d"
				       "1234\x7a\x03\xff\x00\xff"),
			    "good");
	assert_string_equal(LOOK(BODY, "\xf8\xff\xff\xff\x0f\x01"), "good"); /* the greatest number */
}

static void malformed_fields_are_refused(void **state)
{
	(void)state;
	assert_string_equal(LOOK(BODY, "\x12"), "malformed protobuf");
	assert_string_equal(LOOK(BODY, "\x12\x02x"), "malformed protobuf");
	assert_string_equal(LOOK(BODY, "\x12\xff\xff\xff\xff\xff\x01x"), "malformed protobuf");
	assert_string_equal(LOOK(BODY, "\x12\xff\xff\xff\xff\x7fx"), "malformed protobuf");
	assert_string_equal(LOOK(BODY, "\x00\x00"), "malformed protobuf");
	assert_string_equal(LOOK(BODY, "\x0b"), "malformed protobuf");
	assert_string_equal(LOOK(BODY, "\x0e"), "malformed protobuf");
	assert_string_equal(LOOK(BODY, "\x79"
				       "1234567"),
			    "malformed protobuf");
	assert_string_equal(LOOK(BODY, "\x7d"
				       "123"),
			    "malformed protobuf");
	assert_string_equal(LOOK(BODY, "\xff\xff\xff\xff\xff\x01"), "malformed protobuf");
	assert_string_equal(LOOK(BODY, "\xf8\xff\xff\xff\x1f\x01"), "malformed protobuf"); /* number of 30 bits */
	assert_string_equal(LOOK(MESSAGE, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "malformed protobuf");
}

static void inner_message_must_end_where_it_says(void **state)
{
	(void)state;
	assert_string_equal(LOOK(BODY, "\x0a\x03\x1a\x02hi\x12\x00"), "malformed protobuf");
	assert_string_equal(LOOK(BODY, "\x0a\x01\x1a"), "malformed protobuf");
}

static void known_fields_must_have_their_type(void **state)
{
	(void)state;
	assert_string_equal(LOOK(BODY, "\x08\x01"), "field of the wrong type");
	assert_string_equal(LOOK(BODY, "\x10\x01"), "field of the wrong type");
	assert_string_equal(LOOK(BODY, "\x15"
				       "1234"),
			    "field of the wrong type");
	assert_string_equal(LOOK(MESSAGE, "\x0a\x01\x01"), "field of the wrong type");
	assert_string_equal(look(&startalk__proto_message__descriptor, "\x28\x01", 2), "field of the wrong type");
}

static void text_must_be_utf8_without_zero(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"\xff",                 /* never a byte of UTF-8 */
		"\xc3",                 /* cut */
		"a\x80",                /* continuation without a start */
		"\xc0\xaf",             /* overlong slash */
		"\xe0\x80\xaf",         /* the same in three bytes */
		"\xed\xa0\x80",         /* surrogate */
		"\xf4\x90\x80\x80",     /* above U+10FFFF */
		"\xf8\x88\x80\x80\x80", /* five bytes */
	};
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct buf body = { 0 };
		put_bytes(&body, 0x12, bad[i], strlen(bad[i]));
		assert_string_equal(look(BODY, buf_data(&body), body.len), "text is not UTF-8");
		buf_fini(&body);
	}
	assert_string_equal(LOOK(BODY, "\x12\x03"
				       "a\0b"),
			    "U+0000 in text");
	assert_string_equal(LOOK(BODY, "\x0a\x06\x12\x01\xff\x1a\x01x"), "text is not UTF-8");
	/* bytes are no text */
	assert_string_equal(look(&startalk__proto_message__descriptor, "\x2a\x02\xff\x00", 4), "good");
}

static void depth_is_bounded(void **state)
{
	(void)state;
	struct buf at = { 0 }, above = { 0 };
	put_nested(&at, CHECK_DEPTH);
	put_nested(&above, CHECK_DEPTH + 1);
	assert_string_equal(look(BODY, buf_data(&at), at.len), "good");
	assert_string_equal(look(BODY, buf_data(&above), above.len), "nested too deep");
	buf_fini(&at);
	buf_fini(&above);
}

static void limits_of_the_caller_hold(void **state)
{
	(void)state;
	const struct check_limits narrow = { .depth = 3, .headers = 2, .others = 2, .fields = 5 };
	static const struct {
		const char *in;
		size_t n;
		const char *wanted;
	} cases[] = {
		{ "\x1a\x02\x1a\x00", 4, NULL },
		{ "\x1a\x04\x1a\x02\x1a\x00", 6, "nested too deep" },
		{ "\x0a\x00\x0a\x00", 4, NULL },
		{ "\x0a\x00\x0a\x00\x0a\x00", 6, "too many headers" },
		{ "\x1a\x00\x1a\x00", 4, NULL },
		{ "\x1a\x00\x1a\x00\x1a\x00", 6, "too many bodies" },
		{ "\x78\x01\x78\x01\x78\x01\x78\x01\x78\x01", 10, NULL },
		{ "\x78\x01\x78\x01\x78\x01\x78\x01\x78\x01\x78\x01", 12, "too many fields" },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *why;
		int rc = check_message(BODY, (const uint8_t *)cases[i].in, cases[i].n, &narrow, NULL, &why);
		assert_int_equal(rc, cases[i].wanted ? -EBADMSG : 0);
		assert_string_equal(why ? why : "good", cases[i].wanted ? cases[i].wanted : "good");
	}
	/* past what there is room for, nobody's limits reach */
	const struct check_limits wide = { .depth = SIZE_MAX, .headers = 9, .others = 99, .fields = 999 };
	struct buf above = { 0 };
	const char *why;
	put_nested(&above, CHECK_DEPTH + 1);
	assert_int_equal(check_message(BODY, buf_data(&above), above.len, &wide, NULL, &why), -EBADMSG);
	assert_string_equal(why, "nested too deep");
	buf_fini(&above);
}

static void nesting_of_ten_thousand_is_refused(void **state)
{
	(void)state;
	struct buf body = { 0 };
	put_nested(&body, 10000);
	assert_true(body.len > 30000);
	assert_string_equal(look(BODY, buf_data(&body), body.len), "nested too deep");
	buf_fini(&body);
}

static void repeat(struct buf *out, const char *field, size_t n, size_t times)
{
	for (size_t i = 0; i < times; i++) {
		put(out, field, n);
	}
}

static void headers_and_bodies_are_counted(void **state)
{
	(void)state;
	struct buf body = { 0 };
	repeat(&body, "\x0a\x00", 2, 256);
	repeat(&body, "\x1a\x00", 2, 256);
	assert_string_equal(look(BODY, buf_data(&body), body.len), "good");
	put(&body, "\x0a\x00", 2);
	assert_string_equal(look(BODY, buf_data(&body), body.len), "too many headers");
	buf_fini(&body);
	repeat(&body, "\x1a\x00", 2, 257);
	assert_string_equal(look(BODY, buf_data(&body), body.len), "too many bodies");
	buf_fini(&body);
	repeat(&body, "\x0a\x02\x0a\x00", 4, 200); /* params of headers are messages too */
	repeat(&body, "\x1a\x00", 2, 57);
	assert_string_equal(look(BODY, buf_data(&body), body.len), "too many bodies");
	buf_fini(&body);
}

static void two_mebibytes_of_empty_headers_are_refused(void **state)
{
	(void)state;
	struct buf body = { 0 };
	repeat(&body, "\x0a\x00", 2, 1024 * 1024);
	assert_string_equal(look(BODY, buf_data(&body), body.len), "too many headers");
	buf_fini(&body);
}

static void fields_are_counted_known_and_unknown(void **state)
{
	(void)state;
	struct buf body = { 0 };
	repeat(&body, "\x78\x01", 2, 4096);
	assert_string_equal(look(BODY, buf_data(&body), body.len), "good");
	repeat(&body, "\x12\x00", 2, 1);
	assert_string_equal(look(BODY, buf_data(&body), body.len), "too many fields");
	buf_fini(&body);
}

static int unpack(const void *in, size_t n, struct arena *arena, Startalk__MessageBody **out)
{
	ProtobufCMessage *message;
	const char *why;
	int rc = check_unpack(BODY, in, n, &check_client, arena, &message, &why);
	*out = rc == 0 ? (Startalk__MessageBody *)(void *)message : NULL;
	return rc;
}

static void unpacked_message_lies_in_the_arena(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	Startalk__MessageBody *body;
	const char in[] = "\x12\x03one\x0a\x06\x1a\x02hi\x20\x05\x12\x03two\x78\x01";
	assert_int_equal(unpack(in, sizeof(in) - 1, arena, &body), 0);
	assert_string_equal(body->value, "two"); /* the last wins */
	assert_int_equal(body->n_headers, 1);
	assert_string_equal(body->headers[0]->value, "hi");
	assert_int_equal(body->headers[0]->definedkey, 5);
	assert_int_equal(unpack("\x12\x01\xff", 3, arena, &body), -EBADMSG);
	arena_free(&arena);
}

static void memory_stays_in_proportion_to_the_frame(void **state)
{
	(void)state;
	static const struct {
		const char *field;
		size_t n, times;
	} dear[] = {
		{ "\x0a\x00", 2, 256 },  { "\x1a\x00", 2, 256 },  { "\x0a\x02\x0a\x00", 4, 256 },
		{ "\x78\x01", 2, 4096 }, { "\x12\x00", 2, 4096 }, { "\x12\x01x", 3, 4096 },
	};
	for (size_t i = 0; i < COUNT(dear); i++) {
		struct buf in = { 0 };
		struct arena *arena = arena_new(0);
		Startalk__MessageBody *body;
		repeat(&in, dear[i].field, dear[i].n, dear[i].times);
		assert_int_equal(unpack(buf_data(&in), in.len, arena, &body), 0);
		assert_true(arena_used(arena) <= 2 * in.len + 256 * (dear[i].times * 2 + 16));
		arena_free(&arena);
		buf_fini(&in);
	}
}

static void doubled_bodies_that_cost_too_much_are_refused(void **state)
{
	(void)state;
	struct buf message = { 0 };
	struct arena *arena = arena_new(0);
	ProtobufCMessage *out;
	const char *why;
	repeat(&message, "\x4a\x02\x0a\x00", 4, 250); /* each is merged into the ones before */
	int rc = check_unpack(MESSAGE, buf_data(&message), message.len, &check_client, arena, &out, &why);
	assert_true(rc == 0 || rc == -EMSGSIZE);
	assert_true(arena_used(arena) < 256 * 1024);
	arena_free(&arena);
	buf_fini(&message);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(well_formed_messages_pass),
		cmocka_unit_test(unknown_fields_of_every_type_are_skipped),
		cmocka_unit_test(malformed_fields_are_refused),
		cmocka_unit_test(inner_message_must_end_where_it_says),
		cmocka_unit_test(known_fields_must_have_their_type),
		cmocka_unit_test(text_must_be_utf8_without_zero),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(limits_of_the_caller_hold),
		cmocka_unit_test(nesting_of_ten_thousand_is_refused),
		cmocka_unit_test(headers_and_bodies_are_counted),
		cmocka_unit_test(two_mebibytes_of_empty_headers_are_refused),
		cmocka_unit_test(fields_are_counted_known_and_unknown),
		cmocka_unit_test(unpacked_message_lies_in_the_arena),
		cmocka_unit_test(memory_stays_in_proportion_to_the_frame),
		cmocka_unit_test(doubled_bodies_that_cost_too_much_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
