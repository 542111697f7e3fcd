/* SPDX-License-Identifier: MIT */
#ifndef AUTH_SQLITE_VERIFIER_H
#define AUTH_SQLITE_VERIFIER_H

#include <stdbool.h>

#define VERIFIER_MAX 160 /* bytes of a SCRAM verifier, its NUL included */

enum verifier_kind { VERIFIER_NONE, VERIFIER_PLAIN, VERIFIER_SCRAM, VERIFIER_CRYPT, VERIFIER_CRY };

/* What STORED (the column password) is. Only what has a format to the letter counts as that, all else is a plain password. */
enum verifier_kind verifier_kind(const char *stored);
/* What STORED, a plain password by verifier_kind(), looks as if it were meant to be ("a crypt(3) string"), or NULL. */
const char *verifier_lookalike(const char *stored);
/* Makes SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY of PASSWORD with a fresh salt. 0 or -EIO. */
int verifier_make(const char *password, unsigned iterations, char out[VERIFIER_MAX]);
/* Is PASSWORD what STORED stands for? SALT is the column pwd_salt, or NULL. STORED NULL: never, at the price of a
 * SCRAM verification of ITERATIONS. Whatever STORED is, one PBKDF2 is computed. */
bool verifier_check(const char *stored, const char *salt, const char *password, unsigned iterations);

#endif
