/* SPDX-License-Identifier: MIT */
#ifndef STK_PROTO_FRAME_H
#define STK_PROTO_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

#define FRAME_PREFIX_MAX 4 /* bytes of the length prefix */
#define FRAME_SMALL 1024   /* a message up to this size is opened without a malloc */
#define FRAME_TEA_MAX 200  /* a serialised ProtoMessage up to this size is sent with TEA, a larger one with gzip */

/* Reads the length prefix at the start of IN. Returns how many bytes it takes (1 to 4) and stores the length of the
 * ProtoHeader behind it; 0: more bytes are needed; -EBADMSG: longer than 4 bytes. */
int frame_prefix(const uint8_t *in, size_t n, size_t *len);

/* Where a message goes that was hidden. Begins with large NULL (small is not worth clearing), ends with free(large). */
struct frame_room {
	uint8_t *large;
	uint8_t small[FRAME_SMALL];
};

/* Opens a ProtoHeader (IN, N bytes, without the prefix): undoes gzip or TEA. MSG and MSG_LEN get the serialised ProtoMessage,
 * which lies in IN or in ROOM and lives as long as the shorter of them. LIMIT bounds its size. 0, -EBADMSG
 * (WHY gets a constant text that names the fault), -EMSGSIZE (inflates past LIMIT), -ENOMEM; ROOM is to be freed in any case.
 * Thread-safe: deflate states are per thread. */
int frame_open(const uint8_t *in, size_t n, size_t limit, struct frame_room *room, const uint8_t **msg, size_t *msg_len, const char **why);

/* Appends a whole frame, prefix included, that holds the serialised ProtoMessage MSG. 0, -ENOMEM, -EMSGSIZE: it would be 2 MiB or more. */
int frame_wrap(const uint8_t *msg, size_t n, struct buf *out);

/* Frees what this thread keeps for gzip. Call at the thread's end. */
void frame_thread_fini(void);

#endif
