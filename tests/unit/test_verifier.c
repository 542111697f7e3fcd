/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include "modules/auth_sqlite/verifier.h"

static void each_format_is_told_from_a_plain_password(void **state)
{
	(void)state;
	char scram[VERIFIER_MAX];
	assert_int_equal(verifier_make("x", 4096, scram), 0);
	assert_int_equal(verifier_kind(scram), VERIFIER_SCRAM);
	assert_int_equal(verifier_kind("CRY:fd540f073cc09aa98220bbb234153bd5"), VERIFIER_CRY);
	assert_int_equal(verifier_kind("$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"), VERIFIER_CRYPT);
	assert_int_equal(verifier_kind(NULL), VERIFIER_NONE);
	assert_int_equal(verifier_kind(""), VERIFIER_NONE);
}

static void what_only_looks_like_a_format_is_a_plain_password(void **state)
{
	(void)state;
	static const char *const plain[] = { "s3cret", "$", "$6$", "$money$", "$$$", "CRY:short", "CRY:zz540f073cc09aa98220bbb234153bd5",
		"SCRAM-SHA-256$", "SCRAM-SHA-256$4096:c2FsdA==$x:y", "SCRAM-SHA-256$0:c2FsdA==$AA==:AA==", "$6$salt", NULL };
	for (size_t i = 0; plain[i]; i++) {
		assert_int_equal(verifier_kind(plain[i]), VERIFIER_PLAIN);
		assert_true(verifier_check(plain[i], NULL, plain[i], 4096));
		assert_false(verifier_check(plain[i], NULL, "other", 4096));
	}
}

static void a_scram_verifier_takes_its_password_only(void **state)
{
	(void)state;
	char one[VERIFIER_MAX], two[VERIFIER_MAX];
	assert_int_equal(verifier_make("pässword", 4096, one), 0);
	assert_int_equal(verifier_make("pässword", 5000, two), 0);
	assert_string_not_equal(one, two);
	assert_true(verifier_check(one, NULL, "pässword", 4096));
	assert_true(verifier_check(two, NULL, "pässword", 4096));
	assert_false(verifier_check(one, NULL, "password", 4096));
	assert_false(verifier_check(one, NULL, "", 4096));
	assert_false(verifier_check(one, NULL, one, 4096));
}

/* RFC 7677's example: user "user", password "pencil". */
static void the_example_of_rfc_7677_is_verified(void **state)
{
	(void)state;
	const char *stored = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
	                     "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
	assert_int_equal(verifier_kind(stored), VERIFIER_SCRAM);
	assert_true(verifier_check(stored, NULL, "pencil", 4096));
	assert_false(verifier_check(stored, NULL, "pencils", 4096));
}

static void the_scheme_of_existing_deployments_is_verified(void **state)
{
	(void)state;
	const char *stored = "CRY:fd540f073cc09aa98220bbb234153bd5", *salt = "qtalkadmin_pwd_salt_d2bf42081aab47f4ac00697d7dd32993";
	assert_true(verifier_check(stored, salt, "testpassword", 4096));
	assert_true(verifier_check("CRY:FD540F073CC09AA98220BBB234153BD5", salt, "testpassword", 4096));
	assert_false(verifier_check(stored, salt, "Testpassword", 4096));
	assert_false(verifier_check(stored, NULL, "testpassword", 4096));
	assert_false(verifier_check(stored, salt, "", 4096));
}

static void crypt_strings_are_verified(void **state)
{
	(void)state;
	static const char *const stored[] = {
		"$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
		"$y$j9T$cvgcGaiCYoQYx3v4aed870$UmgQqYyFgd0FgAYGghk0dd1xs.cEP.r0SHgP8Jk7tN6",
	};
	for (size_t i = 0; i < sizeof(stored) / sizeof(*stored); i++) {
		assert_int_equal(verifier_kind(stored[i]), VERIFIER_CRYPT);
		assert_true(verifier_check(stored[i], NULL, "Hello world!", 4096));
		assert_false(verifier_check(stored[i], NULL, "Hello world", 4096));
		assert_false(verifier_check(stored[i], NULL, stored[i], 4096));
	}
}

static void nothing_logs_in_where_there_is_no_password(void **state)
{
	(void)state;
	assert_false(verifier_check(NULL, NULL, "x", 4096));
	assert_false(verifier_check("", NULL, "", 4096));
}

static void a_plain_password_that_looks_like_a_hash_is_seen(void **state)
{
	(void)state;
	assert_string_equal(verifier_lookalike("SCRAM-SHA-256$4096:x"), "a SCRAM-SHA-256 verifier");
	assert_string_equal(verifier_lookalike("CRY:0123"), "a CRY: hash");
	assert_string_equal(verifier_lookalike("$9$salt$hashhash"), "a crypt(3) string");
	assert_string_equal(verifier_lookalike("{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="), "an LDAP hash");
	const char *const usual[] = { "", "s3cret", "$", "$$", "$money$", "pa$$word$with$dollars", "{curly}", "{SSHA}", "CRY", "}{" };
	for (size_t i = 0; i < sizeof(usual) / sizeof(*usual); i++) {
		assert_null(verifier_lookalike(usual[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_format_is_told_from_a_plain_password),
		cmocka_unit_test(what_only_looks_like_a_format_is_a_plain_password),
		cmocka_unit_test(a_scram_verifier_takes_its_password_only),
		cmocka_unit_test(the_example_of_rfc_7677_is_verified),
		cmocka_unit_test(the_scheme_of_existing_deployments_is_verified),
		cmocka_unit_test(crypt_strings_are_verified),
		cmocka_unit_test(nothing_logs_in_where_there_is_no_password),
		cmocka_unit_test(a_plain_password_that_looks_like_a_hash_is_seen),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
