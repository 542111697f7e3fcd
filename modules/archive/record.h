/* SPDX-License-Identifier: MIT */
#ifndef ARCHIVE_RECORD_H
#define ARCHIVE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include <startalkd/jid.h>
#include <startalkd/stanza.h>

/* A message as the columns of a row, and back again: nothing that a stanza says is lost on the way. */

#define RECORD_NONE INT64_MIN /* a number that the stanza does not have */

enum record_type { RECORD_CHAT = 6, RECORD_REVOKE = 14 }; /* two of the numbers in the table types */

struct record {
	const char *sender, *recipient; /* folded bare JIDs */
	const char *resource;           /* of the sender's session, or NULL */
	const char *id, *body;
	char *more;   /* JSON, malloc'd by record_read(): whatever has no column; or NULL */
	int64_t time; /* ms since the epoch */
	int type;     /* as in the table types */
	int64_t kind, client, version;
	char addresses[2][STK_JID_MAX + 1]; /* of record_read(): what sender and recipient point to */
};

/* The numbers of the protocol's message types; 0 and NULL for what is none of them. */
int record_type(const char *name);
const char *record_type_name(int type);

/* The bare JID under which rows of JID stand, to OUT[STK_JID_MAX + 1]. 0 or -EINVAL, also for NULL. */
int record_fold(const char *jid, char *out);

/* Fills RECORD from MESSAGE, whose strings it borrows. 0, -EINVAL: it lacks addresses, id, body or time, has a type
 * that the protocol does not know or children within children, -ENOMEM. record_fini() in every case. */
int record_read(struct record *record, const struct stk_stanza *message);
void record_fini(struct record *record);

/* The stanza that RECORD was read from. NULL: out of memory, or `more` has been damaged. */
struct stk_stanza *record_stanza(const struct record *record);

#endif
