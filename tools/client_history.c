/* SPDX-License-Identifier: MIT */
/* The terminal client's look into the history: asking for it page by page, and its lines. Owns the pages until they are
 * shown; what was displayed of it counts as read (client_chat.c). */

#include "tools/client_cmd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XMLNS_HISTORY "startalk:history"
#define HISTORY_DEFAULT 20
#define HISTORY_MAX 10000
#define PAGE_MAX 100 /* what a server gives at once */

/* Pages as they came: the last messages first, in each the oldest first. */
struct history {
	struct stk_stanza **pages; /* as many as messages at most, for none is empty */
	size_t pages_n, messages_n;
	bool complete; /* there is nothing older */
};

static const struct stk_node *first_message(const struct stk_stanza *page)
{
	const struct stk_node *query = stk_node_child(stk_stanza_root(page), "query", XMLNS_HISTORY);
	return stk_node_child(query, "message", NULL);
}

static const struct stk_node *next_message(const struct stk_node *message)
{
	do {
		message = stk_node_next(message);
	} while (message && strcmp(stk_node_name(message), "message") != 0);
	return message;
}

/* ---- asking ---- */

/* The page of LIMIT messages at CURSOR (NULL: the newest). */
static int ask_page(struct client *client, const char *with, size_t limit, const char *cursor, struct stk_stanza **page)
{
	char number[16];
	double unused;
	snprintf(number, sizeof(number), "%zu", limit);
	client_make_id(client->asked);
	struct stk_stanza *request = stk_stanza_new(STK_IQ, "get", client->asked);
	struct stk_node *query = stk_node_add(stk_stanza_edit(request), "query", XMLNS_HISTORY);
	stk_node_set(query, "with", with);
	stk_node_set(query, "limit", number);
	stk_node_set(query, "cursor", cursor);
	return command_ask(client, "history", request, page, &unused);
}

/* Takes PAGE (a reference, taken). Returns the cursor of the next page, or NULL: this was the last. */
static const char *take_page(struct history *history, struct stk_stanza *page)
{
	const struct stk_node *query = stk_node_child(stk_stanza_root(page), "query", XMLNS_HISTORY);
	const char *complete = stk_node_attr(query, "complete"), *next = stk_node_attr(query, "next");
	size_t n = 0;
	for (const struct stk_node *each = first_message(page); each; each = next_message(each)) {
		n++;
	}
	history->complete = !next || !complete || strcmp(complete, "true") == 0;
	if (!n) {
		stk_stanza_unref(page);
		return NULL;
	}
	history->pages[history->pages_n++] = page;
	history->messages_n += n;
	return history->complete ? NULL : next;
}

static int ask_all(struct client *client, const char *with, size_t limit, struct history *history)
{
	const char *cursor = NULL;
	do {
		size_t left = limit - history->messages_n;
		struct stk_stanza *page;
		int rc = ask_page(client, with, left < PAGE_MAX ? left : PAGE_MAX, cursor, &page);
		if (rc < 0) {
			return rc;
		}
		cursor = take_page(history, page);
	} while (cursor && history->messages_n < limit);
	return 0;
}

/* ---- showing ---- */

static const char *name_flag(const char *flag)
{
	switch (flag ? flag[0] : '0') {
	case '0': return " (sent)";
	case '1': return " (delivered)";
	case '3': return " (read)";
	default: return "";
	}
}

static void show_entry(struct client *client, const struct stk_node *message)
{
	const char *type = stk_node_attr(message, "type"), *kind = stk_node_attr(message, "msgType");
	const char *revoked = stk_node_attr(message, "revoked"), *flag = stk_node_attr(message, "flag");
	char date[SHOW_DATE_SIZE], name[SHOW_NAME_SIZE] = "me";
	bool own = show_is_own(client, message), back = revoked && strcmp(revoked, "true") == 0;
	bool plain = back || !kind || strcmp(kind, "1") == 0 || strcmp(kind, "0") == 0;
	bool chat = back || !type || strcmp(type, "chat") == 0;
	if (!own) {
		show_name(client, stk_node_attr(message, "from"), false, name, sizeof(name));
	}
	show_date(stk_node_attr(message, "time"), date);
	show_untimed(client, "%s %s%s%s%s%s: %s%s", date, name, chat ? "" : ", ", chat ? "" : type,
		     plain ? "" : ", kind ", plain ? "" : kind, back ? "(taken back)" : stk_node_text(message),
		     own && !back ? name_flag(flag) : "");
	if (!back && (!flag || strcmp(flag, "3") != 0)) {
		client_displayed(client, message);
	}
}

static void show_history(struct client *client, const char *with, const struct history *history)
{
	char name[SHOW_NAME_SIZE];
	show_name(client, with, false, name, sizeof(name));
	show_line(client, "history with %s: %zu message%s%s", name, history->messages_n,
		  history->messages_n == 1 ? "" : "s", history->complete ? "" : ", there are older ones");
	for (size_t i = history->pages_n; i > 0; i--) {
		const struct stk_node *each = first_message(history->pages[i - 1]);
		for (; each; each = next_message(each)) {
			show_entry(client, each);
		}
	}
}

int command_history(struct client *client, char *arguments)
{
	const char *typed = command_word(&arguments), *limit = command_word(&arguments);
	struct history history = { 0 };
	long n = HISTORY_DEFAULT;
	if (!typed || *command_rest(arguments) || (limit && command_number(limit, 1, HISTORY_MAX, &n) < 0)) {
		return command_misuse(client, "/history JID [N] (1 to 10000)");
	}
	char *with = command_jid(client, typed);
	if (!with) {
		return -EINVAL;
	}
	history.pages = calloc((size_t)n, sizeof(*history.pages));
	/* What was just sent is in it. */
	int rc = history.pages ? client_await_receipts(client, 0) : command_no_memory(client);
	rc = rc < 0 ? rc : ask_all(client, with, (size_t)n, &history);
	if (rc == 0) {
		show_history(client, with, &history);
		rc = client_send_marks(client);
	}
	for (size_t i = 0; i < history.pages_n; i++) {
		stk_stanza_unref(history.pages[i]);
	}
	free(history.pages);
	free(with);
	return rc;
}
