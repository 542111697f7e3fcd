/* SPDX-License-Identifier: MIT */
/* Messages along flows. A flow has one sender and one or more receivers; the sender of a ping receives itself, its
 * answer. Each message carries a token with its number and time, by which each receiver sees what is missing or out of
 * order. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/session.h"

#define SEND_BATCH 256                /* messages in a turn of an open loop, so that reading goes on */
#define BACKLOG_MAX ((size_t)8 << 20) /* bytes that the server does not take */
#define LAST_BOUND 5000000            /* microseconds for the pings at the end */
#define MARK_FLOW 0x800000u           /* in a token's flow: it is of a mark */
#define ID_LAST "last"
#define DRAIN_QUIET 3000000 /* microseconds without an arrival after which the rest counts as lost */

enum { IQ_ID = 4, IQ_DEFINED_KEY = 11, KEY_RESULT = 80, PRESENCE_BODY = 6, XMPP_ID = 7, XMPP_BODY = 9, BODY_VALUE = 2 };

struct flow {
	uint32_t number, sent;
	bool returns; /* the sender receives what it sent, or the answer to it */
	uint64_t arrivals;
	uint32_t receipt; /* number of the message whose receipt is to come next */
	struct session *from;
	struct stencil stencil;
	struct stencil mark; /* from the receivers to the sender */
};

/* ---- set-up ---- */

/* Text that compresses like text: words of a fixed sequence of pseudo-random numbers. */
static char *make_text(size_t n)
{
	static const char *const words[] = {
		"the",    "meeting", "is",     "at",     "three", "please", "send", "me",
		"report", "today",   "thanks", "see",    "you",   "there",  "new",  "file",
		"was",    "moved",   "to",     "server", "ok",    "lunch",  "who",  "knows"
	};
	char *text = malloc(n + 1);
	uint32_t state = 1;
	if (!text) {
		die("out of memory");
	}
	for (size_t at = 0; at < n;) {
		state = state * 1664525u + 1013904223u;
		const char *word = words[(state >> 16) % (sizeof(words) / sizeof(*words))];
		for (; *word && at < n; word++) {
			text[at++] = *word;
		}
		if (at < n) {
			text[at++] = ' ';
		}
	}
	text[n] = '\0';
	return text;
}

void traffic_init(struct bench *bench, enum load_kind kind, double rate)
{
	struct traffic *traffic = &bench->traffic;
	size_t body = (size_t)bench->options.body;
	traffic->kind = kind;
	traffic->rate = rate;
	traffic->last = UINT64_MAX;
	traffic->text_len = kind == KIND_NOTIFY ? (body > TOKEN_LEN ? body - TOKEN_LEN : 0) : body;
	traffic->text = make_text(traffic->text_len);
	traffic->receipts_wanted = kind == KIND_CHAT && !bench->options.bare;
	traffic->parts = traffic->receipts_wanted;
	if (bench->options.record && !(traffic->record = fopen(bench->options.record, "we"))) {
		die("--record: %s: %s", bench->options.record, strerror(errno));
	}
}

/* The JID of a session without its resource. */
static const char *bare(const struct session *session, char out[BENCH_JID])
{
	snprintf(out, BENCH_JID, "%.*s", (int)strcspn(session->jid, "/"), session->jid);
	return out;
}

void traffic_add(struct bench *bench, struct session *from, struct session **to, unsigned to_count)
{
	char own[BENCH_JID], peer[BENCH_JID];
	struct traffic *traffic = &bench->traffic;
	enum wrap_kind wrap = (enum wrap_kind)bench->options.wrap;
	struct flow *flows = realloc(traffic->flows, (traffic->flow_count + 1) * sizeof(*flows));
	if (!flows) {
		die("out of memory");
	}
	traffic->flows = flows;
	struct flow *flow = &flows[traffic->flow_count];
	const struct session *peer_of = to_count ? to[0] : from;
	*flow = (struct flow){ .number = traffic->flow_count, .returns = !to_count, .from = from };
	traffic->flow_count++;
	switch (traffic->kind) {
	case KIND_CHAT:
		stencil_chat(&bench->codec, &flow->stencil, wrap, bare(from, own), bare(peer_of, peer), traffic->text);
		break;
	case KIND_NOTIFY:
		stencil_notify(&bench->codec, &flow->stencil, wrap, bare(from, own), bare(peer_of, peer),
			       traffic->text);
		break;
	case KIND_PING: stencil_ping(&bench->codec, &flow->stencil, wrap, from->jid); break;
	}
	if (traffic->kind == KIND_CHAT && bench->options.marks) {
		stencil_mark(&bench->codec, &flow->mark, wrap, bare(peer_of, peer), bare(from, own));
	}
	from->flow_number = (int32_t)flow->number;
	for (unsigned i = 0; i < to_count; i++) {
		to[i]->flow_number = (int32_t)flow->number;
	}
	/* A receiver more is a delivery more of each message. All flows have as many. */
	if (flow->number == 0) {
		traffic->parts += to_count ? to_count : 1;
	}
}

void traffic_fini(struct bench *bench)
{
	for (unsigned i = 0; i < bench->traffic.flow_count; i++) {
		stencil_fini(&bench->traffic.flows[i].stencil);
		stencil_fini(&bench->traffic.flows[i].mark);
	}
	if (bench->traffic.record && fclose(bench->traffic.record) != 0) {
		die("--record: %s: %s", bench->options.record, strerror(errno));
	}
	free(bench->traffic.flows);
	free(bench->traffic.text);
}

/* ---- sending ---- */

static void send_message(struct bench *bench, struct flow *flow, int64_t time)
{
	struct token token = {
		.run = bench->run, .flow = flow->number, .seq = flow->sent++, .time = (uint64_t)(time - bench->start)
	};
	bench->traffic.sent++;
	session_send(flow->from, stencil_stamp(&bench->codec, &flow->stencil, &token));
	if (session_backlog(flow->from) > BACKLOG_MAX) {
		bench_fault(bench, "the server does not keep up: %zu bytes wait for one connection",
			    session_backlog(flow->from));
		bench->stop = true;
	}
}

/* Closed loop: keeps --window messages under way. */
static void refill(struct bench *bench, struct flow *flow)
{
	struct traffic *traffic = &bench->traffic;
	uint64_t allowed = flow->arrivals / traffic->parts + (uint64_t)bench->options.window;
	while (traffic->on && !bench->stop && flow->sent < allowed && traffic->sent < traffic->last) {
		send_message(bench, flow, clock_us());
	}
}

void traffic_start(struct bench *bench)
{
	struct traffic *traffic = &bench->traffic;
	traffic->on = true;
	traffic->since = clock_us();
	traffic->primed = traffic->rate > 0;
	if (traffic->record) { /* whoever watches the file learns that it begins */
		fprintf(traffic->record, "begin - %lld %lld\n", (long long)traffic->since, (long long)traffic->since);
		fflush(traffic->record);
	}
}

int64_t traffic_due(const struct bench *bench)
{
	const struct traffic *traffic = &bench->traffic;
	if (!traffic->on || traffic->sent >= traffic->last) {
		return INT64_MAX;
	}
	if (traffic->rate <= 0) {
		return traffic->primed ? INT64_MAX : 0;
	}
	return traffic->since + (int64_t)((double)traffic->paced / traffic->rate * 1e6);
}

void traffic_pump(struct bench *bench)
{
	struct traffic *traffic = &bench->traffic;
	for (unsigned i = 0; i < traffic->flow_count && traffic->on && !traffic->primed; i++) {
		refill(bench, &traffic->flows[i]);
	}
	traffic->primed = traffic->primed || traffic->on;
	for (int i = 0; i < SEND_BATCH && !bench->stop; i++) {
		int64_t due = traffic_due(bench);
		if (due > bench->now) {
			return;
		}
		/* The time is when it should have been sent: a late start counts as latency. */
		send_message(bench, &traffic->flows[traffic->paced++ % traffic->flow_count], due);
	}
}

/* ---- arrivals ---- */

static void check_order(struct traffic *traffic, uint32_t *expect, uint32_t number)
{
	if (number < *expect) {
		traffic->reordered++; /* late, or for the second time */
		return;
	}
	traffic->gaps += number - *expect;
	*expect = number + 1;
}

static void note_latency(struct bench *bench, struct histogram *histogram, const struct token *token)
{
	int64_t sent = bench->start + (int64_t)token->time;
	if (sent >= bench->measure_from && bench->now >= sent) {
		histogram_add(histogram, (uint64_t)(bench->now - sent));
	}
}

static void note_arrival(const struct bench *bench, const char *kind, const struct token *token)
{
	struct token message = *token;
	uint8_t id[TOKEN_LEN];
	message.flow &= ~MARK_FLOW;
	if (bench->traffic.record) {
		token_write(&message, id);
		fprintf(bench->traffic.record, "%s %.*s %lld %lld\n", kind, TOKEN_LEN, (const char *)id,
			(long long)(bench->start + (int64_t)token->time), (long long)bench->now);
	}
}

static bool text_is_whole(const struct traffic *traffic, struct view text)
{
	size_t skip = traffic->kind == KIND_NOTIFY ? TOKEN_LEN : 0;
	return traffic->kind == KIND_PING ||
	       (text.len == skip + traffic->text_len &&
		(!traffic->text_len || memcmp(text.data + skip, traffic->text, traffic->text_len) == 0));
}

static void send_mark(struct bench *bench, struct session *session, struct flow *flow, const struct token *token)
{
	struct token tokens[] = { *token, *token };
	tokens[0].flow |= MARK_FLOW;
	bench->traffic.marks++;
	session_send(session, stencil_stamp(&bench->codec, &flow->mark, tokens));
}

/* A mark that reached the sender of the message, or its receipt. */
static void take_mark(struct bench *bench, const struct session *session, const struct frame *frame,
		      const struct token *token)
{
	struct traffic *traffic = &bench->traffic;
	if (session->flow_number != (int32_t)(token->flow & ~MARK_FLOW)) {
		bench_fault(bench, "a mark of flow %u reached %s", token->flow & ~MARK_FLOW, session->jid);
	}
	traffic->marks_arrived += frame->signal == SIGNAL_READMARK;
	if (frame->signal == SIGNAL_MSTAT) {
		traffic->mark_receipts++;
		note_arrival(bench, "mark", token);
	}
	traffic->last_arrival = bench->now;
}

static void take_delivery(struct bench *bench, struct session *session, struct flow *flow, const struct token *token,
			  struct view text)
{
	struct traffic *traffic = &bench->traffic;
	check_order(traffic, &session->expect, token->seq);
	traffic->altered += !text_is_whole(traffic, text);
	traffic->delivered++;
	note_latency(bench, &traffic->delivery, token);
	note_arrival(bench, "delivery", token);
	flow->arrivals++;
	if (flow->mark.tokens) {
		send_mark(bench, session, flow, token);
	}
}

static void take_receipt(struct bench *bench, struct flow *flow, const struct token *token)
{
	struct traffic *traffic = &bench->traffic;
	check_order(traffic, &flow->receipt, token->seq);
	traffic->receipts++;
	note_latency(bench, &traffic->receipt, token);
	note_arrival(bench, "receipt", token);
	flow->arrivals++;
}

/* Where a frame of one of our kinds has its token; what else arrives has none. */
static struct view token_of(const struct frame *frame, struct view *text)
{
	*text = (struct view){ 0 };
	switch (frame->signal) {
	case SIGNAL_CHAT:
		*text = field_bytes(field_bytes(frame->inner, XMPP_BODY), BODY_VALUE);
		return field_bytes(frame->inner, XMPP_ID);
	case SIGNAL_READMARK:
	case SIGNAL_MSTAT:
	case SIGNAL_ERROR: return field_bytes(frame->inner, XMPP_ID);
	case SIGNAL_IQ: return field_bytes(frame->inner, IQ_ID);
	case SIGNAL_PRESENCE: *text = field_bytes(field_bytes(frame->inner, PRESENCE_BODY), BODY_VALUE); return *text;
	default: return (struct view){ 0 };
	}
}

static void on_frame(struct bench *bench, struct session *session, const struct frame *frame)
{
	static const unsigned deliveries[] = {
		[KIND_CHAT] = SIGNAL_CHAT, [KIND_NOTIFY] = SIGNAL_PRESENCE, [KIND_PING] = SIGNAL_IQ
	};
	struct traffic *traffic = &bench->traffic;
	struct token token;
	struct view text;
	struct view id = token_of(frame, &text);
	traffic->last_answers += frame->signal == SIGNAL_IQ && view_is(id, ID_LAST);
	if (!token_read(id, &token) || token.run != bench->run || (token.flow & ~MARK_FLOW) >= traffic->flow_count) {
		return; /* a notice of the server, or left over from another run */
	}
	if (token.flow & MARK_FLOW) {
		take_mark(bench, session, frame, &token);
		return;
	}
	struct flow *flow = &traffic->flows[token.flow];
	bool receives = session != flow->from || flow->returns;
	bool refused = frame->signal == SIGNAL_ERROR ||
		       (frame->signal == SIGNAL_IQ && field_int(frame->inner, IQ_DEFINED_KEY) != KEY_RESULT);
	if (session->flow_number != (int32_t)flow->number) {
		bench_fault(bench, "a message of flow %u reached %s", flow->number, session->jid);
	} else if (refused) {
		traffic->refused++;
		flow->arrivals += traffic->parts;
	} else if (frame->signal == deliveries[traffic->kind] && receives) {
		take_delivery(bench, session, flow, &token, text);
	} else if (frame->signal == SIGNAL_MSTAT && session == flow->from) {
		take_receipt(bench, flow, &token);
	}
	traffic->last_arrival = bench->now;
	if (traffic->rate <= 0) {
		refill(bench, flow);
	}
}

static void on_online(struct bench *bench, struct session *session)
{
	(void)bench;
	session->flow_number = -1;
}

static void on_ended(struct bench *bench, struct session *session, const char *why)
{
	bench_fault(bench, "%s%05u: %s", bench->options.prefix, session->user, why);
	bench->stop = true;
}

const struct role traffic_role = { .online = on_online, .frame = on_frame, .ended = on_ended };

/* ---- the end ---- */

static bool all_arrived(const struct traffic *traffic)
{
	return traffic->delivered + traffic->receipts + traffic->refused * traffic->parts >=
		       traffic->sent * traffic->parts &&
	       traffic->marks_arrived >= traffic->marks && traffic->mark_receipts >= traffic->marks;
}

bool traffic_exhausted(const struct bench *bench)
{
	return bench->traffic.sent >= bench->traffic.last && all_arrived(&bench->traffic);
}

static void fault_of(struct bench *bench, uint64_t count, const char *what)
{
	if (count) {
		bench_fault(bench, "%llu %s", (unsigned long long)count, what);
	}
}

/* What a client got counts as delivered when it has sent something after the server saw that it arrived. The first ping
 * lets it see, the second says so; else the clients of another run would get it again. */
static void say_last(struct bench *bench)
{
	struct traffic *traffic = &bench->traffic;
	int64_t until = clock_us() + LAST_BOUND;
	struct session *next;
	for (struct session *session = bench->sessions; session; session = next) {
		next = session->next;
		if (session->role == &traffic_role && session->state == SESSION_ONLINE) {
			traffic->last_pings++;
			session_send(session, frame_ping(&bench->codec, session->jid, ID_LAST));
		}
	}
	while (traffic->last_answers < traffic->last_pings && bench->now < until && engine_turn(bench, until)) {
	}
}

void traffic_finish(struct bench *bench)
{
	struct traffic *traffic = &bench->traffic;
	traffic->on = false;
	traffic->last_arrival = clock_us();
	while (!all_arrived(traffic) && bench->now < traffic->last_arrival + DRAIN_QUIET &&
	       engine_turn(bench, traffic->last_arrival + DRAIN_QUIET)) {
	}
	uint64_t receipts = traffic->receipts_wanted ? traffic->sent - traffic->refused : 0;
	uint64_t deliveries = (traffic->sent - traffic->refused) * (traffic->parts - traffic->receipts_wanted);
	traffic->lost = deliveries > traffic->delivered ? deliveries - traffic->delivered : 0;
	traffic->lost_receipts = receipts > traffic->receipts ? receipts - traffic->receipts : 0;
	fault_of(bench, traffic->lost,
		 traffic->kind == KIND_PING ? "pings were not answered" : "messages were not delivered");
	fault_of(bench, traffic->lost_receipts, "messages have no receipt");
	fault_of(bench, traffic->reordered, "messages or receipts arrived late or twice");
	fault_of(bench, traffic->lost || traffic->lost_receipts || traffic->reordered ? 0 : traffic->gaps,
		 "messages or receipts arrived too early");
	uint64_t arrived =
		traffic->marks_arrived < traffic->mark_receipts ? traffic->marks_arrived : traffic->mark_receipts;
	traffic->lost_marks = traffic->marks > arrived ? traffic->marks - arrived : 0;
	fault_of(bench, traffic->lost_marks, "marks were not delivered or have no receipt");
	fault_of(bench, traffic->altered, "messages arrived with another text");
	fault_of(bench, traffic->refused, "messages were refused");
	if (!bench->options.bare) {
		say_last(bench);
		say_last(bench);
	}
}
