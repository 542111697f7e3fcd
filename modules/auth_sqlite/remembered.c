/* SPDX-License-Identifier: MIT */
/* Remembers that a password was right, so that clients which all come back at once cost no PBKDF2 each. Keeps hashes only, under
 * a random key that never leaves the process. */

#include "remembered.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#define HASH    32 /* bytes of a SHA-256 */
#define KEPT    20 /* of these; 160 bits are not met by chance */
#define CAP_MIN 256

/* Open addressing: an account is at its own place or behind it, with no free one between. */
struct slot {
	uint64_t account; /* 0: free */
	uint32_t until;   /* seconds since the epoch */
	uint8_t hash[KEPT];
};

struct remembered {
	pthread_mutex_t lock;
	double keep; /* seconds; 0: off */
	uint8_t key[HASH];
	struct slot *slots;
	size_t cap, used;
};

static void wipe_slots(struct slot *slots, size_t cap)
{
	if (slots) {
		gnutls_memset(slots, 0, cap * sizeof(*slots));
	}
}

struct remembered *remembered_new(void)
{
	struct remembered *remembered = calloc(1, sizeof(*remembered));
	if (!remembered) {
		return NULL;
	}
	remembered->slots = calloc(CAP_MIN, sizeof(struct slot));
	remembered->cap = CAP_MIN;
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

/* Where ACCOUNT is, or the free place where it would be. */
static struct slot *find(struct slot *slots, size_t cap, uint64_t account)
{
	size_t i = account & (cap - 1);
	while (slots[i].account && slots[i].account != account) {
		i = (i + 1) & (cap - 1);
	}
	return &slots[i];
}

/* Moves what is good beyond NOW (0: everything) to a table of CAP places. False: out of memory. */
static bool rebuild(struct remembered *remembered, size_t cap, uint32_t now)
{
	struct slot *slots = calloc(cap, sizeof(*slots));
	if (!slots) {
		return false;
	}
	size_t used = 0;
	for (size_t i = 0; i < remembered->cap; i++) {
		const struct slot *slot = &remembered->slots[i];
		if (slot->account && slot->until > now) {
			*find(slots, cap, slot->account) = *slot;
			used++;
		}
	}
	wipe_slots(remembered->slots, remembered->cap);
	free(remembered->slots);
	remembered->slots = slots;
	remembered->cap = cap;
	remembered->used = used;
	return true;
}

void remembered_keep(struct remembered *remembered, double seconds)
{
	pthread_mutex_lock(&remembered->lock);
	remembered->keep = seconds;
	if (seconds <= 0) {
		wipe_slots(remembered->slots, remembered->cap);
		remembered->used = 0;
	}
	pthread_mutex_unlock(&remembered->lock);
}

static uint32_t end_of(const struct remembered *remembered, int64_t now)
{
	return (uint32_t)((now + (int64_t)(remembered->keep * 1000) + 999) / 1000); /* rounded up */
}

bool remembered_check(struct remembered *remembered, const char *account, const char *stored, const char *salt, const char *password,
                      int64_t now)
{
	struct question question;
	if (!ask(remembered, account, stored, salt, password, &question)) {
		return false;
	}
	pthread_mutex_lock(&remembered->lock);
	struct slot *slot = find(remembered->slots, remembered->cap, question.account);
	bool known = slot->account && slot->until > now / 1000 && gnutls_memcmp(slot->hash, question.hash, KEPT) == 0;
	if (known) {
		slot->until = end_of(remembered, now);
	}
	pthread_mutex_unlock(&remembered->lock);
	gnutls_memset(&question, 0, sizeof(question));
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
	if (4 * (remembered->used + 1) > 3 * remembered->cap) {
		(void)rebuild(remembered, 2 * remembered->cap, 0);
	}
	struct slot *slot = find(remembered->slots, remembered->cap, question.account);
	bool room = slot->account || (remembered->used < REMEMBERED_MAX && 4 * (remembered->used + 1) <= 3 * remembered->cap);
	if (!room && remembered->slots[question.account & (remembered->cap - 1)].account) {
		slot = &remembered->slots[question.account & (remembered->cap - 1)]; /* whose place it is not makes room */
	}
	if (remembered->keep > 0 && (room || slot->account)) {
		remembered->used += slot->account == 0;
		slot->account = question.account;
		slot->until = end_of(remembered, now);
		memcpy(slot->hash, question.hash, KEPT);
	}
	pthread_mutex_unlock(&remembered->lock);
	gnutls_memset(&question, 0, sizeof(question));
}

void remembered_sweep(struct remembered *remembered, int64_t now)
{
	pthread_mutex_lock(&remembered->lock);
	uint32_t seconds = (uint32_t)(now / 1000);
	size_t good = 0, cap = CAP_MIN;
	for (size_t i = 0; i < remembered->cap; i++) {
		good += remembered->slots[i].account && remembered->slots[i].until > seconds;
	}
	while (4 * (good + 1) > 3 * cap) {
		cap *= 2;
	}
	if (good < remembered->used) {
		(void)rebuild(remembered, cap, seconds);
	}
	pthread_mutex_unlock(&remembered->lock);
}
