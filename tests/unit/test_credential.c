/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>

#include <gnutls/gnutls.h>

#include "modules/auth_sqlite/credential.h"

static gnutls_privkey_t key, other;

static int make_keys(void **state)
{
	(void)state;
	return gnutls_privkey_init(&key) || gnutls_privkey_init(&other) || gnutls_privkey_generate(key, GNUTLS_PK_RSA, 1024, 0) ||
	       gnutls_privkey_generate(other, GNUTLS_PK_RSA, 1024, 0);
}

static int free_keys(void **state)
{
	(void)state;
	gnutls_privkey_deinit(key);
	gnutls_privkey_deinit(other);
	return 0;
}

/* TEXT encrypted for KEY, in base64; malloc'd. */
static char *encrypt(gnutls_privkey_t whose, const char *text)
{
	gnutls_pubkey_t public;
	gnutls_datum_t clear = { .data = (unsigned char *)(uintptr_t)text, .size = (unsigned)strlen(text) }, cipher, encoded;
	assert_int_equal(gnutls_pubkey_init(&public), 0);
	assert_int_equal(gnutls_pubkey_import_privkey(public, whose, 0, 0), 0);
	assert_int_equal(gnutls_pubkey_encrypt_data(public, 0, &clear, &cipher), 0);
	assert_int_equal(gnutls_base64_encode2(&cipher, &encoded), 0);
	char *copy = strndup((const char *)encoded.data, encoded.size);
	gnutls_free(cipher.data);
	gnutls_free(encoded.data);
	gnutls_pubkey_deinit(public);
	return copy;
}

static void assert_password(const char *credential, const char *wanted, bool wanted_rsa)
{
	bool rsa = !wanted_rsa;
	char *password = credential_password(key, "alice", credential, &rsa);
	assert_string_equal(password, wanted);
	assert_int_equal(rsa, wanted_rsa);
	credential_wipe(password);
}

static void a_plain_message_is_taken_apart(void **state)
{
	(void)state;
	struct plain plain;
	assert_int_equal(plain_parse((const uint8_t *)"zid\0cid\0pw", 10, &plain), 0);
	assert_string_equal(plain.authzid, "zid");
	assert_string_equal(plain.authcid, "cid");
	assert_string_equal(plain.credential, "pw");
	plain_fini(&plain);
	assert_int_equal(plain_parse((const uint8_t *)"\0cid\0", 5, &plain), 0);
	assert_string_equal(plain.credential, "");
	plain_fini(&plain);
}

static void a_message_of_another_shape_is_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		size_t len;
	} bad[] = { { "", 0 }, { "x", 1 }, { "\0x", 2 }, { "\0\0pw", 4 }, { "\0a\0b\0c", 6 }, { "\0a\0b\0", 5 }, { "\0a\0\xff", 4 } };
	struct plain plain;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(plain_parse((const uint8_t *)bad[i].text, bad[i].len, &plain), -EINVAL);
		plain_fini(&plain);
	}
}

static void an_encrypted_credential_gives_the_password_in_its_json(void **state)
{
	(void)state;
	static const char *const texts[] = { "{\"p\":\"s3cret\"}", "{\"p\":\"s3cret\",\"u\":\"Alice\",\"a\":\"testapp\",\"mk\":\"k\"}", NULL };
	for (size_t i = 0; texts[i]; i++) {
		char *credential = encrypt(key, texts[i]);
		assert_password(credential, "s3cret", true);
		free(credential);
	}
}

static void what_does_not_decrypt_to_that_json_is_taken_literally(void **state)
{
	(void)state;
	static const char *const texts[] = { "no json", "{\"u\":\"alice\"}", "{\"p\":\"\"}", "{\"p\":5}", "{\"p\":\"x\",\"u\":\"bob\"}",
		"{\"p\":\"x\",\"u\":null}", "[\"p\"]", "{\"p\":\"x\",\"p\":\"y\"}", NULL };
	for (size_t i = 0; texts[i]; i++) {
		char *credential = encrypt(key, texts[i]);
		assert_password(credential, credential, false);
		free(credential);
	}
	char *foreign = encrypt(other, "{\"p\":\"s3cret\"}");
	assert_password(foreign, foreign, false);
	free(foreign);
	assert_password("s3cret", "s3cret", false);
	assert_password("", "", false);
	assert_password("{\"p\":\"s3cret\"}", "{\"p\":\"s3cret\"}", false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_plain_message_is_taken_apart),
		cmocka_unit_test(a_message_of_another_shape_is_refused),
		cmocka_unit_test(an_encrypted_credential_gives_the_password_in_its_json),
		cmocka_unit_test(what_does_not_decrypt_to_that_json_is_taken_literally),
	};
	return cmocka_run_group_tests(tests, make_keys, free_keys);
}
