/* SPDX-License-Identifier: MIT */
/* Fuzz target: up to three clients at a real server, by a sequence of actions: frames as they are, mutated or made of any
 * bytes, in pieces, whole logins, ends of all kinds, and time that passes. What the server says must be frames, none of them
 * behind its StreamEnd or for somebody who may not have it, and of who is gone nothing may be left. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/conn.h"
#include "core/pool.h"
#include "core/reload.h"
#include "core/stanza.h"
#include "proto/codec.h"
#include "proto/frame.h"
#include "tests/fuzz/host.h"
#include "tools/xml_parse.h"

#define PEERS      3
#define ROUNDS     2000 /* inputs of one server */
#define ACTIONS    64  /* of one input */
#define FRAME_MOST (2u * 1024 * 1024)
#define FAILURES   2   /* wrong passwords of one input: they are made to cost time */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char modules[] = "[auth_sqlite]\nplain-without-tls = on\npoll-interval = 1500ms\n[bind]\nsessions-per-user = 3\n[presence]\nshare = asked\n"
			      "[archive]\n[message]\n[ping]\n";

static const char *const users[] = { "alice", "bob" };

/* What a client says; $U is who it is, $P who else there is, $R its resource, $C its credential and
 * $W a wrong one. Message ids are patched. */
static const char *const texts[] = {
	"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='" HOST_DOMAIN "' version='1.0' id='1' "
	"user='$U' from='" HOST_DOMAIN "'/>",
	"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN' id='PBMSG_1'>$C</auth>",
	"<iq id='b' type='set'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>$R</resource></bind></iq>",
	"<presence><priority>5</priority></presence>",
	"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
	"<presence xmlns='jabber:x:verify_friend' to='$P@" HOST_DOMAIN "' type='verify_friend' "
	"method='manual_authentication_confirm' reason='r' body='hi'/>",
	"<presence><show>away</show><priority>-1</priority></presence>",
	"<iq id='p' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
	"<message from='$U@" HOST_DOMAIN "' to='$P@" HOST_DOMAIN "' type='chat' client_type='ClientTypePC' client_ver='1'>"
	"<body id='m-0000' msgType='1'>hi</body></message>",
	"<message from='$U@" HOST_DOMAIN "' to='$P@" HOST_DOMAIN "' type='typing' client_type='ClientTypePC' client_ver='1'>"
	"<body id='m-0000' msgType='1'>t</body></message>",
	"<message read_type='4' from='$U@" HOST_DOMAIN "' to='$P@" HOST_DOMAIN "' type='readmark' client_type='ClientTypePC' client_ver='1'>"
	"<body id='r' msgType='1'>[{&quot;id&quot;:&quot;m-0000&quot;}]</body></message>",
	"<message from='$U@" HOST_DOMAIN "' to='$P@" HOST_DOMAIN "' type='revoke' client_type='ClientTypePC' client_ver='1'>"
	"<body extendInfo='{&quot;messageId&quot;:&quot;m-0000&quot;,&quot;fromId&quot;:&quot;$U@" HOST_DOMAIN "&quot;,"
	"&quot;message&quot;:&quot;x&quot;}' id='m-0000' msgType='-1'>x</body></message>",
	"<message from='$U@" HOST_DOMAIN "' to='nobody@" HOST_DOMAIN "' type='chat' client_type='ClientTypePC' client_ver='1'>"
	"<body id='m-0000' msgType='1'>hi</body></message>",
	"<presence from='$U@" HOST_DOMAIN "' to='$P@" HOST_DOMAIN "' category='3' data='{}' type='notify'>"
	"<notify xmlns='jabber:x:presence_notify'/></presence>",
	"<iq to='$P@" HOST_DOMAIN "' id='o' type='get'><get_verify_friend_mode xmlns='jabber:iq:verify_friend_mode' jid='$P'/></iq>",
	"<iq id='k' type='get'><key xmlns='urn:xmpp:key'/></iq>",
	"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN' id='PBMSG_1'>$W</auth>",
};
enum { WELCOME, AUTH, BIND, AVAILABLE, WRONG = 16, TEXTS = sizeof(texts) / sizeof(*texts) };
enum { RESOURCES = 2 };

struct bytes {
	uint8_t *data;
	size_t len;
};
static struct bytes messages[RESOURCES][2][TEXTS]; /* serialised ProtoMessages */

struct peer {
	int fd; /* -1: not connected */
	bool ended, logged_in, knows, tls, paused;
	unsigned split;
	struct buf in;
};
static struct peer peers[PEERS];
static struct server *server;
static int failures;

/* ---- what is there to say ---- */

static char *fill_in(const char *text, int user, int resource)
{
	static const char *const resources[] = { "V[200012]_P[PC64]_ID[1]_C[1]_PB", "V[300]_P[iOS]_ID[2]_C[1]_PB" };
	/* base64 of NUL, user, NUL, password */
	static const char *const credentials[] = { "AGFsaWNlAHcwbmRlci1sNG5k", "AGJvYgB3MG5kZXItbDRuZA==" };
	static const char *const wrong[] = { "AGFsaWNlAHdyMG5n", "AGJvYgB3cjBuZw==" };
	struct buf out = { 0 };
	for (; *text; text++) {
		const char *part = *text != '$'    ? NULL :
				   text[1] == 'U' ? users[user] :
				   text[1] == 'P' ? users[!user] :
				   text[1] == 'R' ? resources[resource] :
				   text[1] == 'W' ? wrong[user] :
						    credentials[user];
		int rc = part ? buf_append(&out, part, strlen(part)) : buf_append(&out, text, 1);
		assert(rc == 0);
		text += part != NULL;
	}
	int rc = buf_append(&out, "", 1);
	assert(rc == 0);
	char *copy = strdup((const char *)buf_data(&out));
	assert(copy);
	buf_fini(&out);
	return copy;
}

static struct bytes make_message(const char *text)
{
	struct codec_context context = { .now_ms = 1, .inflate_max = FRAME_MOST, .side = CODEC_CLIENT };
	struct stk_stanza *stanza;
	struct buf frame = { 0 };
	struct frame_room room;
	const uint8_t *msg;
	const char *why;
	size_t len;
	room.large = NULL;
	int rc = xml_parse(text, strlen(text), &stanza, &why);
	assert(rc == 0);
	rc = codec_encode(&context, stanza, &frame);
	assert(rc == 0 && frame.len);
	int prefix = frame_prefix(buf_data(&frame), frame.len, &len);
	rc = frame_open(buf_data(&frame) + prefix, len, FRAME_MOST, &room, &msg, &len, &why);
	assert(rc == 0);
	struct bytes bytes = { .data = malloc(len), .len = len };
	assert(bytes.data);
	memcpy(bytes.data, msg, len);
	free(room.large);
	buf_fini(&frame);
	stk_stanza_unref(stanza);
	return bytes;
}

static void free_messages(void)
{
	for (size_t i = 0; i < RESOURCES * 2 * TEXTS; i++) {
		free(messages[i % RESOURCES][i / RESOURCES % 2][i / RESOURCES / 2].data);
	}
}

static void make_messages(void)
{
	for (size_t i = 0; i < RESOURCES * 2 * TEXTS; i++) {
		int resource = (int)(i % RESOURCES), user = (int)(i / RESOURCES % 2);
		char *xml = fill_in(texts[i / RESOURCES / 2], user, resource);
		messages[resource][user][i / RESOURCES / 2] = make_message(xml);
		free(xml);
	}
	atexit(free_messages);
}

/* ---- what the server says ---- */

static bool is_about(const struct stk_stanza *stanza)
{
	const char *to = stk_stanza_to(stanza);
	return to && *to;
}

/* Before login there is nothing but login, and errors. */
static void check_stanza(struct peer *peer, const struct stk_stanza *stanza)
{
	const char *type = stk_stanza_type(stanza);
	assert(!peer->ended);
	switch (stanza_element(stanza)) {
	case STANZA_STREAM:
	case STANZA_FAILURE: break;
	case STANZA_STREAM_END: peer->ended = true; break;
	case STANZA_PROCEED: peer->tls = true; break;
	case STANZA_SUCCESS:
		assert(peer->knows && !peer->logged_in);
		peer->logged_in = true;
		break;
	case STK_IQ: assert(peer->logged_in || (type && strcmp(type, "error") == 0)); break;
	case STK_MESSAGE:
	case STK_PRESENCE: assert(peer->logged_in && is_about(stanza)); break;
	default: assert(!"the server says nothing else");
	}
}

static void check_frames(struct peer *peer)
{
	struct codec_context context = { .now_ms = 1, .inflate_max = FRAME_MOST, .side = CODEC_SERVER };
	size_t len;
	int prefix;
	while (!peer->tls && (prefix = frame_prefix(buf_data(&peer->in), peer->in.len, &len)) != 0) {
		struct stk_stanza *stanza = NULL;
		const char *from, *why = NULL;
		assert(prefix > 0 && len < FRAME_MOST);
		if (peer->in.len - (size_t)prefix < len) {
			return;
		}
		int rc = codec_decode(&context, buf_data(&peer->in) + prefix, len, &stanza, &from, &why);
		assert(rc == 0);
		assert(!peer->ended);
		if (stanza) {
			check_stanza(peer, stanza);
		}
		stk_stanza_unref(stanza);
		buf_consume(&peer->in, (size_t)prefix + len);
	}
}

static void read_peer(struct peer *peer)
{
	static uint8_t room[65536];
	ssize_t n;
	while (peer->fd >= 0 && !peer->paused && (n = recv(peer->fd, room, sizeof(room), MSG_DONTWAIT)) > 0) {
		if (!peer->tls) {
			int rc = buf_append(&peer->in, room, (size_t)n);
			assert(rc == 0);
			check_frames(peer);
		}
	}
}

static void settle(void)
{
	host_settle();
	for (int i = 0; i < PEERS; i++) {
		read_peer(&peers[i]);
	}
}

/* ---- what clients do ---- */

static void open_peer(struct peer *peer, unsigned mode)
{
	int fds[2];
	struct event *opened = calloc(1, sizeof(*opened));
	if (peer->fd >= 0) {
		free(opened);
		return;
	}
	assert(opened && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	opened->tls = (int)(mode & 3);
	snprintf(opened->address, sizeof(opened->address), "192.0.2.%d:5222", (int)(peer - peers) + 1);
	*peer = (struct peer){ .fd = fds[0], .tls = opened->tls == LISTEN_TLS_DIRECT };
	loop_accepted(server->loop, fds[1], opened);
	settle();
}

static void close_peer(struct peer *peer)
{
	if (peer->fd >= 0) {
		peer->paused = false;
		read_peer(peer);
		assert(peer->tls || !peer->in.len || !peer->ended);
		close(peer->fd);
		buf_fini(&peer->in);
		peer->fd = -1;
	}
}

/* In pieces; what a server that does not read has no room for is lost. */
static void say(struct peer *peer, const uint8_t *data, size_t len)
{
	size_t step = peer->split ? peer->split : len;
	for (size_t at = 0; at < len && peer->fd >= 0; at += step) {
		size_t n = len - at < step ? len - at : step;
		if (send(peer->fd, data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
			break;
		}
		step = len / step > 40 ? step * 2 : step;
		settle();
	}
	settle();
}

/* MSG, with or without its being hidden in the frame. */
static void say_message(struct peer *peer, const uint8_t *msg, size_t len, bool hide)
{
	struct buf frame = { 0 };
	uint8_t head[16], inner[8];
	size_t n = 0, rest = len, m = 0;
	if (hide) {
		int rc = frame_wrap(msg, len, &frame);
		assert(rc == 0);
	} else {
		inner[m++] = 0x32;
		for (; rest >= 0x80; rest >>= 7) {
			inner[m++] = (uint8_t)(rest | 0x80);
		}
		inner[m++] = (uint8_t)rest;
		for (rest = len + m; rest >= 0x80; rest >>= 7) {
			head[n++] = (uint8_t)(rest | 0x80);
		}
		head[n++] = (uint8_t)rest;
		int rc = buf_append(&frame, head, n) | buf_append(&frame, inner, m) | (len ? buf_append(&frame, msg, len) : 0);
		assert(rc == 0);
	}
	say(peer, buf_data(&frame), frame.len);
	buf_fini(&frame);
}

struct input {
	const uint8_t *data;
	size_t len;
};

static unsigned take(struct input *input)
{
	if (!input->len) {
		return 0;
	}
	input->len--;
	return *input->data++;
}

static const uint8_t *take_bytes(struct input *input, size_t *len)
{
	const uint8_t *data = input->data;
	*len = *len < input->len ? *len : input->len;
	input->data += *len;
	input->len -= *len;
	return data;
}

static void patch_id(uint8_t *msg, size_t len, unsigned id)
{
	uint8_t *at = msg;
	while ((at = memmem(at, len - (size_t)(at - msg), "m-0000", 6))) {
		at[4] = (uint8_t)('a' + (id >> 4 & 15));
		at[5] = (uint8_t)('a' + (id & 15));
		at += 6;
	}
}

/* A text, with as many bytes changed as MUTATIONS says. */
static void say_text(struct peer *peer, struct input *input, unsigned mutations)
{
	unsigned which = take(input), id = take(input);
	const struct bytes *text = &messages[which >> 7 & 1][which >> 6 & 1][(which & 63) % TEXTS];
	uint8_t *msg = malloc(text->len);
	assert(msg);
	memcpy(msg, text->data, text->len);
	patch_id(msg, text->len, id);
	for (unsigned i = 0; i < mutations; i++) {
		unsigned at = take(input);
		at |= take(input) << 8;
		msg[at % text->len] = (uint8_t)take(input);
	}
	peer->knows |= (which & 63) % TEXTS == AUTH;
	say_message(peer, msg, text->len, id & 1);
	free(msg);
}

/* Up to a state of the session; FLAGS 3: with a wrong password. */
static void log_in(struct peer *peer, unsigned how, unsigned flags)
{
	const struct bytes *mine = messages[how >> 1 & 1][how & 1];
	open_peer(peer, how >> 2 & 1);
	say_message(peer, mine[WELCOME].data, mine[WELCOME].len, how >> 3 & 1);
	if (flags == 3) {
		if (failures++ < FAILURES) {
			say_message(peer, mine[WRONG].data, mine[WRONG].len, how >> 4 & 1);
		}
		return;
	}
	peer->knows = true;
	say_message(peer, mine[AUTH].data, mine[AUTH].len, how >> 4 & 1);
	for (int last = flags == 2 ? AUTH : flags == 1 ? BIND : AVAILABLE, i = BIND; i <= last; i++) {
		say_message(peer, mine[i].data, mine[i].len, how >> 5 & 1);
	}
}

static void end_session(unsigned user)
{
	char bare[64];
	snprintf(bare, sizeof(bare), "%s@" HOST_DOMAIN, users[user & 1]);
	struct stk_session *session = session_of_user(server, bare);
	if (session) {
		stk_session_end(session, 222, "by the operator");
	}
	settle();
}

static void ignore(const char *line, void *arg)
{
	(void)line;
	(void)arg;
}

static void pass(unsigned which)
{
	static const double steps[] = { 0.02, 0.3, 1, 5, 31, 61, 130, 301 };
	host_pass(steps[which % (sizeof(steps) / sizeof(*steps))]);
	settle();
}

static void act(struct input *input, bool *reloaded)
{
	unsigned action = take(input), flags = action >> 6;
	struct peer *peer = &peers[(action >> 4 & 3) % PEERS];
	size_t len;
	const uint8_t *data;
	switch (action & 15) {
	case 0: open_peer(peer, take(input)); break;
	case 1:
		len = take(input);
		data = take_bytes(input, &len);
		say(peer, data, len);
		break;
	case 2:
		len = take(input);
		len |= take(input) << 8;
		data = take_bytes(input, &len);
		say_message(peer, data, len, flags & 1);
		break;
	case 3: close_peer(peer); settle(); break;
	case 4:
		if (peer->fd >= 0) {
			shutdown(peer->fd, SHUT_WR);
		}
		settle();
		break;
	case 5: peer->split = take(input); break;
	case 6: pass(take(input)); break;
	case 7: peer->paused = !peer->paused; settle(); break;
	case 8:
		if (!*reloaded) {
			*reloaded = true;
			server_reload(server, false, ignore, NULL);
		}
		settle();
		break;
	case 9: end_session(take(input)); break;
	case 10:
	case 11: log_in(peer, take(input), flags); break;
	default: say_text(peer, input, flags); break;
	}
}

/* ---- the end ---- */

static void check_left(void)
{
	for (int i = 0; i < PEERS; i++) {
		close_peer(&peers[i]);
	}
	host_settle();
	host_pass(0.1);
	host_pass(5);
	assert(!server->sessions.by_id && !server->sessions.users && !server->sessions.dead && !server->sessions.bound);
	assert(loop_connections(server->loop) == 0 && gate_waiting(server->gate) == 0);
	for (int i = 0; i < PEERS; i++) {
		char address[32];
		snprintf(address, sizeof(address), "192.0.2.%d:5222", i + 1);
		assert(gate_connections(server->gate, address) == 0);
	}
	assert(!server->asks && !server->carried);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { .data = data, .len = size };
	bool reloaded = false;
	if (!messages[0][0][0].data) {
		make_messages();
	}
	server = host_enter(modules, ROUNDS);
	failures = 0;
	for (int i = 0; i < PEERS; i++) {
		peers[i] = (struct peer){ .fd = -1 };
	}
	for (int i = 0; i < ACTIONS && input.len; i++) {
		act(&input, &reloaded);
	}
	check_left();
	host_leave();
	return 0;
}
