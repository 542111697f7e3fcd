/* SPDX-License-Identifier: MIT */
/* What travels on a stream beside iq, presence and message: the header, STARTTLS, SASL and the end. Owns those frames'
 * shape in both directions; the order in which they may come is the server's business. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/names.h"
#include "proto/pass.h"
#include "proto/text.h"

/* ---- reading ---- */

/* Stream ids are numbers; nothing depends on them. */
static const char *make_stream_id(struct reading *reading)
{
	char *id = make_id(reading);
	for (size_t i = 0; id && id[i]; i++) {
		id[i] = i < 10 ? (char)('0' + id[i] % 10) : '\0';
	}
	return id;
}

int stream_read(struct reading *reading)
{
	const Startalk__WelcomeMessage *welcome = (const void *)reading->message;
	struct stk_node *root = reading->root;
	if (!welcome->domain && !welcome->version && !welcome->user) {
		reading->why = "empty WelcomeMessage";
		return -EBADMSG;
	}
	node_set(root, "xmlns:stream", NS_STREAMS);
	node_set(root, "to", welcome->domain);
	node_set(root, "version", welcome->version);
	node_set(root, "id", make_stream_id(reading));
	node_set(root, "user", welcome->user);
	node_set(root, "from", welcome->domain);
	if (reading->context->side == CODEC_SERVER) {
		node_set(root, "sockmod", welcome->sockmod);
	}
	node_set(root, "xml:lang", "en");
	return 0;
}

int starttls_read(struct reading *reading)
{
	(void)reading; /* the element says it all */
	return 0;
}

/* The parts of the envelope's from as attributes user and domain. */
static void read_account(struct reading *reading)
{
	const char *from = text_or_null(reading->envelope->from);
	const char *at = from ? strchr(from, '@') : NULL;
	at = at == from ? NULL : at; /* no user is no account's name */
	if (at) {
		node_set(reading->root, "user", keep_user(reading, from));
	}
	node_set(reading->root, "domain", at ? at + 1 : from);
}

int proceed_read(struct reading *reading)
{
	read_account(reading);
	return 0;
}

int auth_read(struct reading *reading)
{
	const Startalk__AuthMessage *auth = (const void *)reading->message;
	if (!auth->mechanism && !auth->authkey) {
		reading->why = "empty AuthMessage";
		return -EBADMSG;
	}
	const char *id = text_or_null(auth->msgid);
	node_set(reading->root, "mechanism", auth->mechanism);
	node_set(reading->root, "id", id ? id : make_id(reading));
	node_set_text(reading->root, auth->authkey);
	return 0;
}

int success_read(struct reading *reading)
{
	const Startalk__ResponseSucceeded *success = (const void *)reading->message;
	node_set(reading->root, "id", success->msgid);
	read_account(reading);
	return 0;
}

int failure_read(struct reading *reading)
{
	const Startalk__ResponseFailure *failure = (const void *)reading->message;
	node_set(reading->root, "reason", failure->error);
	node_set(reading->root, "domain", text_or_null(reading->envelope->from));
	return 0;
}

int stream_end_read(struct reading *reading)
{
	const Startalk__StreamEnd *end = (const void *)reading->message;
	if (end->has_code) {
		node_set(reading->root, "code", keep_number(reading, end->code));
	}
	node_set(reading->root, "reason", end->reason);
	return 0;
}

/* ---- writing ---- */

/* USER@DOMAIN, or DOMAIN where there is no user. */
static char *put_account(struct writing *writing, const char *user, const char *domain)
{
	if (!user || !*user || !domain) {
		return put_text(writing, domain);
	}
	size_t size = strlen(user) + strlen(domain) + 2;
	char *account = put_alloc(writing, size);
	if (account) {
		snprintf(account, size, "%s@%s", user, domain);
	}
	return put_text(writing, account);
}

static const char *attr(const struct writing *writing, const char *name)
{
	return stk_node_attr(writing->root, name);
}

int stream_write(struct writing *writing)
{
	Startalk__WelcomeMessage welcome;
	startalk__welcome_message__init(&welcome);
	bool server = writing->context->side == CODEC_SERVER;
	const char *domain = attr(writing, server ? "from" : "to");
	domain = domain ? domain : attr(writing, server ? "to" : "from");
	const char *user = attr(writing, "user"), *sockmod = attr(writing, "sockmod");
	welcome.domain = put_text(writing, domain);
	welcome.version = put_text(writing, attr(writing, "version"));
	welcome.user = put_text(writing, user || !server ? user : "");
	welcome.sockmod = server ? put_text(writing, sockmod ? sockmod : "") : NULL;
	writing->envelope.has_options = !server;
	writing->envelope.from = put_account(writing, user, domain);
	writing->envelope.to = server ? writing->envelope.from : put_text(writing, domain);
	return finish_frame(writing, STARTALK__SIGNAL_TYPE__SignalTypeWelcome, &welcome.base);
}

int starttls_write(struct writing *writing)
{
	Startalk__StartTLS start;
	startalk__start_tls__init(&start);
	writing->envelope.has_options = false;
	return finish_frame(writing, STARTALK__SIGNAL_TYPE__SignalStartTLS, &start.base);
}

int proceed_write(struct writing *writing)
{
	Startalk__ProceedTLS proceed;
	startalk__proceed_tls__init(&proceed);
	writing->envelope.has_options = false;
	writing->envelope.from = put_account(writing, attr(writing, "user"), attr(writing, "domain"));
	writing->envelope.to = writing->envelope.from;
	return finish_frame(writing, STARTALK__SIGNAL_TYPE__SignalProceedTLS, &proceed.base);
}

int auth_write(struct writing *writing)
{
	Startalk__AuthMessage auth;
	startalk__auth_message__init(&auth);
	auth.mechanism = put_text(writing, attr(writing, "mechanism"));
	auth.method = auth.mechanism;
	auth.msgid = put_text(writing, attr(writing, "id"));
	auth.authkey = put_text(writing, stk_node_text(writing->root));
	writing->envelope.from = put_text(writing, writing->context->self);
	return finish_frame(writing, STARTALK__SIGNAL_TYPE__SignalTypeAuth, &auth.base);
}

int success_write(struct writing *writing)
{
	Startalk__ResponseSucceeded success;
	startalk__response_succeeded__init(&success);
	struct body *body = body_new(writing);
	if (!body) {
		return -ENOMEM;
	}
	const char *id = attr(writing, "id");
	body->pb.value = put_text(writing, "login sucess"); /* as clients know it */
	success.has_code = true;
	success.msgid = put_text(writing, id ? id : "0");
	success.info = put_text(writing, "");
	success.body = &body->pb;
	writing->envelope.has_options = false;
	writing->envelope.from = put_account(writing, attr(writing, "user"), attr(writing, "domain"));
	writing->envelope.to = writing->envelope.from;
	return finish_frame(writing, STARTALK__SIGNAL_TYPE__SignalTypeSucceededResponse, &success.base);
}

int failure_write(struct writing *writing)
{
	Startalk__ResponseFailure failure;
	startalk__response_failure__init(&failure);
	struct body *body = body_new(writing);
	if (!body) {
		return -ENOMEM;
	}
	body->pb.value = put_text(writing, "login failed");
	failure.has_code = true;
	failure.error = put_text(writing, attr(writing, "reason"));
	failure.body = &body->pb;
	writing->envelope.has_options = false;
	writing->envelope.from = put_text(writing, attr(writing, "domain"));
	writing->envelope.to = writing->envelope.from;
	return finish_frame(writing, STARTALK__SIGNAL_TYPE__SignalTypeFailureResponse, &failure.base);
}

int stream_end_write(struct writing *writing)
{
	Startalk__StreamEnd end;
	startalk__stream_end__init(&end);
	const char *code = attr(writing, "code");
	int64_t number = 0;
	if (code && !number_parse(code, INT32_MIN, INT32_MAX, &number)) {
		return -EINVAL;
	}
	end.has_code = code != NULL;
	end.code = (int32_t)number;
	end.reason = put_text(writing, attr(writing, "reason"));
	writing->envelope.has_options = false;
	writing->envelope.from = put_text(writing, "");
	writing->envelope.to = writing->envelope.from;
	return finish_frame(writing, STARTALK__SIGNAL_TYPE__SignalTypeStreamEnd, &end.base);
}
