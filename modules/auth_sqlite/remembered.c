/* SPDX-License-Identifier: MIT */
/* Remembers that a password was right, so that clients which all come back at once cost no PBKDF2 each. Keeps hashes only, under
 * a random key that never leaves the process. */

#include "remembered.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#define WAYS      4 /* places that an account may have */
#define SETS_MIN  64
#define SETS_MAX  (REMEMBERED_MAX / WAYS)
#define HASH      32 /* bytes of a SHA-256 */

struct slot {
	uint64_t account; /* 0: free */
	int64_t until;    /* ms */
	uint8_t hash[HASH];
};

struct remembered {
	pthread_mutex_t lock;
	int64_t keep; /* ms; 0: off */
	uint8_t key[HASH];
	struct slot *slots;
	size_t sets;
};

struct remembered *remembered_new(void)
{
	struct remembered *remembered = calloc(1, sizeof(*remembered));
	if (!remembered) {
		return NULL;
	}
	remembered->slots = calloc(SETS_MIN * WAYS, sizeof(struct slot));
	remembered->sets = SETS_MIN;
	pthread_mutex_init(&remembered->lock, NULL);
	if (!remembered->slots || gnutls_rnd(GNUTLS_RND_KEY, remembered->key, sizeof(remembered->key)) < 0) {
		remembered_free(&remembered);
	}
	return remembered;
}

void remembered_free(struct remembered **remembered_ptr)
{
	struct remembered *remembered = *remembered_ptr;
	if (!remembered) {
		return;
	}
	*remembered_ptr = NULL;
	pthread_mutex_destroy(&remembered->lock);
	free(remembered->slots);
	gnutls_memset(remembered->key, 0, sizeof(remembered->key));
	free(remembered);
}

static bool add_text(gnutls_hmac_hd_t mac, const char *text)
{
	uint64_t size = text ? strlen(text) + 1 : 0; /* NULL differs from "" */
	return gnutls_hmac(mac, &size, sizeof(size)) == 0 && (!size || gnutls_hmac(mac, text, size) == 0);
}

static bool hash_texts(const struct remembered *remembered, const char *const texts[], size_t n, uint8_t out[HASH])
{
	gnutls_hmac_hd_t mac;
	if (gnutls_hmac_init(&mac, GNUTLS_MAC_SHA256, remembered->key, sizeof(remembered->key)) < 0) {
		return false;
	}
	bool whole = true;
	for (size_t i = 0; i < n && whole; i++) {
		whole = add_text(mac, texts[i]);
	}
	gnutls_hmac_deinit(mac, out);
	return whole;
}

/* Who, and what is to be compared for them. */
struct question {
	uint64_t account;
	uint8_t hash[HASH];
};

static bool ask(const struct remembered *remembered, const char *account, const char *stored, const char *salt, const char *password,
                struct question *question)
{
	const char *const name[] = { account }, *const all[] = { account, stored, salt, password };
	uint8_t hash[HASH];
	if (!hash_texts(remembered, name, 1, hash) || !hash_texts(remembered, all, 4, question->hash)) {
		return false;
	}
	memcpy(&question->account, hash, sizeof(question->account));
	question->account += question->account == 0;
	return true;
}

static struct slot *set_of(const struct remembered *remembered, uint64_t account)
{
	return &remembered->slots[(account & (remembered->sets - 1)) * WAYS];
}

static struct slot *find(const struct remembered *remembered, uint64_t account)
{
	struct slot *set = set_of(remembered, account);
	for (int i = 0; i < WAYS; i++) {
		if (set[i].account == account) {
			return &set[i];
		}
	}
	return NULL;
}

/* A free place, or that of whoever was not seen for longest. */
static struct slot *oldest(struct slot *set)
{
	struct slot *found = set;
	for (int i = 0; i < WAYS && found->account; i++) {
		if (!set[i].account || set[i].until < found->until) {
			found = &set[i];
		}
	}
	return found;
}

static void grow(struct remembered *remembered)
{
	struct remembered larger = { .sets = remembered->sets * 2 };
	larger.slots = calloc(larger.sets * WAYS, sizeof(struct slot));
	if (!larger.slots) {
		return;
	}
	for (size_t i = 0; i < remembered->sets * WAYS; i++) {
		const struct slot *slot = &remembered->slots[i];
		if (slot->account) {
			*oldest(set_of(&larger, slot->account)) = *slot;
		}
	}
	gnutls_memset(remembered->slots, 0, remembered->sets * WAYS * sizeof(struct slot));
	free(remembered->slots);
	remembered->slots = larger.slots;
	remembered->sets = larger.sets;
}

void remembered_keep(struct remembered *remembered, double seconds)
{
	pthread_mutex_lock(&remembered->lock);
	remembered->keep = (int64_t)(seconds * 1000);
	if (!remembered->keep) {
		gnutls_memset(remembered->slots, 0, remembered->sets * WAYS * sizeof(struct slot));
	}
	pthread_mutex_unlock(&remembered->lock);
}

bool remembered_check(struct remembered *remembered, const char *account, const char *stored, const char *salt, const char *password,
                      int64_t now)
{
	struct question question;
	if (!ask(remembered, account, stored, salt, password, &question)) {
		return false;
	}
	pthread_mutex_lock(&remembered->lock);
	struct slot *slot = remembered->keep ? find(remembered, question.account) : NULL;
	bool known = slot && slot->until > now && gnutls_memcmp(slot->hash, question.hash, HASH) == 0;
	if (known) {
		slot->until = now + remembered->keep;
	}
	pthread_mutex_unlock(&remembered->lock);
	return known;
}

void remembered_add(struct remembered *remembered, const char *account, const char *stored, const char *salt, const char *password,
                    int64_t now)
{
	struct question question;
	if (!ask(remembered, account, stored, salt, password, &question)) {
		return;
	}
	pthread_mutex_lock(&remembered->lock);
	struct slot *slot = find(remembered, question.account);
	slot = slot ? slot : oldest(set_of(remembered, question.account));
	if (slot->account && slot->account != question.account && remembered->sets < SETS_MAX) {
		grow(remembered); /* without memory, or when four still meet, somebody else is forgotten */
		slot = oldest(set_of(remembered, question.account));
	}
	if (remembered->keep) {
		slot->account = question.account;
		slot->until = now + remembered->keep;
		memcpy(slot->hash, question.hash, HASH);
	}
	pthread_mutex_unlock(&remembered->lock);
}

void remembered_sweep(struct remembered *remembered, int64_t now)
{
	pthread_mutex_lock(&remembered->lock);
	for (size_t i = 0; i < remembered->sets * WAYS; i++) {
		if (remembered->slots[i].account && remembered->slots[i].until <= now) {
			gnutls_memset(&remembered->slots[i], 0, sizeof(struct slot));
		}
	}
	pthread_mutex_unlock(&remembered->lock);
}
