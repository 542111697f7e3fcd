/* SPDX-License-Identifier: MIT */
#ifndef AUTH_SQLITE_NAMES_H
#define AUTH_SQLITE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The names of all accounts, as a set of 64-bit hashes under a key of this process: 16 bytes an account, and nobody outside can
 * make two names meet. */
struct names {
	uint64_t key[2];
	uint64_t *slots; /* 0: free */
	size_t cap, used;
};

int names_init(struct names *names);
void names_fini(struct names *names);
/* BARE is a folded bare JID. 0 or -ENOMEM. */
int names_add(struct names *names, const char *bare);
void names_remove(struct names *names, const char *bare);
bool names_has(const struct names *names, const char *bare);

#endif
