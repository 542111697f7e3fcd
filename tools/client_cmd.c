/* SPDX-License-Identifier: MIT */
/* The terminal client's commands: what a line means and whether it worked. Owns the table that /help prints and the
 * shapes of arguments. How stanzas travel and what is waited for is the session's business. */

#include "tools/client_cmd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <startalkd/jid.h>


struct command {
	const char *name, *arguments, *help;
	int (*run)(struct client *client, char *arguments);
};

/* ---- arguments ---- */

char *command_word(char **rest)
{
	char *word = *rest + strspn(*rest, " \t");
	size_t len = strcspn(word, " \t");
	*rest = word + len;
	if (!len) {
		return NULL;
	}
	if (**rest) {
		*(*rest)++ = '\0';
	}
	return word;
}

char *command_rest(char *rest)
{
	return rest + strspn(rest, " \t");
}

static void cut_spaces(char *text)
{
	size_t len = strlen(text);
	while (len && strchr(" \t", text[len - 1])) {
		text[--len] = '\0';
	}
}

int command_misuse(struct client *client, const char *usage)
{
	show_error(client, "usage: %s", usage);
	return -EINVAL;
}

int command_no_memory(struct client *client)
{
	show_error(client, "out of memory");
	return -ENOMEM;
}

int command_number(const char *text, long min, long max, long *number)
{
	char *end;
	errno = 0;
	*number = text ? strtol(text, &end, 10) : 0;
	return text && end != text && !*end && !errno && *number >= min && *number <= max ? 0 : -EINVAL;
}

/* Names may have dots, too, so only the own domain itself is taken for a domain. */
char *command_jid(struct client *client, const char *typed)
{
	struct stk_jid jid;
	char *whole = NULL;
	const char *own = strchr(client->bare, '@');
	bool is_name = !strpbrk(typed, "@/") && strcmp(typed, own + 1) != 0;
	if (asprintf(&whole, "%s%s", typed, is_name ? own : "") < 0) {
		command_no_memory(client);
		return NULL;
	}
	if (stk_jid_parse(&jid, whole) < 0) {
		show_error(client, "%s: not a JID", typed);
		free(whole);
		return NULL;
	}
	return whole;
}

/* ---- requests ---- */

int command_ask(struct client *client, const char *name, struct stk_stanza *request, struct stk_stanza **answer,
		double *ms)
{
	char why[512];
	int rc = client_ask(client, request, answer, ms);
	if (rc < 0) {
		return rc;
	}
	const char *type = stk_stanza_type(*answer);
	if (!type || strcmp(type, "error") != 0) {
		return 0;
	}
	show_failure(*answer, why, sizeof(why));
	show_error(client, "%s: error %s", name, why);
	stk_stanza_unref(*answer);
	*answer = NULL;
	return -EACCES;
}

static int run_ping(struct client *client, char *arguments)
{
	struct stk_stanza *answer;
	double ms;
	if (*command_rest(arguments)) {
		return command_misuse(client, "/ping");
	}
	client_make_id(client->asked);
	struct stk_stanza *request = stk_stanza_new(STK_IQ, "get", client->asked);
	stk_node_add(stk_stanza_edit(request), "ping", "urn:xmpp:ping");
	int rc = command_ask(client, "ping", request, &answer, &ms);
	if (rc == 0) {
		show_line(client, "ping: answered in %.1f ms", ms);
		stk_stanza_unref(answer);
	}
	return rc;
}

static void show_answer(struct client *client, const struct stk_stanza *answer, double ms)
{
	const struct stk_node *payload = stk_stanza_payload(answer);
	show_line(client, "iq: answered in %.1f ms%s%s", ms, payload ? ": " : "",
		  payload ? stk_node_name(payload) : "");
	if (payload && !client->run->raw) { /* else it was shown when it came */
		show_raw(client, "<< ", answer, true);
	}
}

static int run_iq(struct client *client, char *arguments)
{
	const char *type = command_word(&arguments), *xmlns = command_word(&arguments),
		   *name = command_word(&arguments);
	const char *to = command_word(&arguments);
	struct stk_stanza *answer;
	double ms;
	if (!type || !xmlns || (strcmp(type, "get") != 0 && strcmp(type, "set") != 0) || *command_rest(arguments)) {
		return command_misuse(client, "/iq get|set XMLNS [NAME] [TO]");
	}
	if (name && !to && strchr(name, '@')) {
		to = name;
		name = NULL;
	}
	char *jid = to ? command_jid(client, to) : NULL;
	if (to && !jid) {
		return -EINVAL;
	}
	client_make_id(client->asked);
	struct stk_stanza *request = stk_stanza_new(STK_IQ, type, client->asked);
	stk_stanza_set_to(request, jid);
	stk_node_add(stk_stanza_edit(request), name ? name : "query", xmlns);
	free(jid);
	int rc = command_ask(client, "iq", request, &answer, &ms);
	if (rc == 0) {
		show_answer(client, answer, ms);
		stk_stanza_unref(answer);
	}
	return rc;
}

/* ---- presence ---- */

static int send_presence(struct client *client, const char *show, int priority)
{
	char number[16];
	snprintf(number, sizeof(number), "%d", priority);
	struct stk_stanza *presence = stk_stanza_new(STK_PRESENCE, NULL, NULL);
	struct stk_node *root = stk_stanza_edit(presence);
	if (show) {
		stk_node_set_text(stk_node_add(root, "show", NULL), show);
	}
	stk_node_set_text(stk_node_add(root, "priority", NULL), number);
	return client_send(client, presence, NULL);
}

static int run_show(struct client *client, char *arguments)
{
	const char *show = command_word(&arguments);
	if (!show || *command_rest(arguments)) {
		return command_misuse(client, "/show away|busy|offline|checkin|checkout|push|online|normal|dnd");
	}
	return send_presence(client, show, client->priority);
}

static int run_priority(struct client *client, char *arguments)
{
	long priority;
	if (command_number(command_word(&arguments), -128, 127, &priority) < 0 || *command_rest(arguments)) {
		return command_misuse(client, "/priority NUMBER (-128 to 127)");
	}
	int rc = send_presence(client, NULL, (int)priority);
	client->priority = rc == 0 ? (int)priority : client->priority;
	return rc;
}

static int run_notify(struct client *client, char *arguments)
{
	const char *category = command_word(&arguments), *typed = command_word(&arguments),
		   *data = command_rest(arguments);
	long number;
	if (!typed || command_number(category, 0, INT32_MAX, &number) < 0) {
		return command_misuse(client, "/notify CATEGORY JID [DATA]");
	}
	char *jid = command_jid(client, typed);
	if (!jid) {
		return -EINVAL;
	}
	struct stk_stanza *presence = stk_stanza_new(STK_PRESENCE, "notify", NULL);
	struct stk_node *root = stk_stanza_edit(presence);
	stk_stanza_set_from(presence, client->full);
	stk_stanza_set_to(presence, jid);
	stk_node_set(root, "category", category);
	stk_node_set(root, "data", data);
	stk_node_add(root, "notify", "jabber:x:presence_notify");
	free(jid);
	return client_send(client, presence, NULL);
}

/* ---- the session ---- */

static int run_raw(struct client *client, char *arguments)
{
	const char *word = command_word(&arguments);
	if (!word || (strcmp(word, "on") != 0 && strcmp(word, "off") != 0) || *command_rest(arguments)) {
		return command_misuse(client, "/raw on|off");
	}
	client->run->raw = strcmp(word, "on") == 0;
	return 0;
}

static int run_wait(struct client *client, char *arguments)
{
	const char *word = command_word(&arguments);
	int64_t us;
	bool expired = false;
	if (!word || client_duration(word, &us) < 0 || *command_rest(arguments)) {
		return command_misuse(client, "/wait SECONDS");
	}
	int64_t deadline = clock_us() + us;
	int rc = 0;
	while (rc == 0 && !expired) {
		rc = client_step(client->run, false, deadline, &expired);
	}
	return rc;
}

/* Looks for TEXT in the lines shown since the last match and forgets them up to the one that has it. */
static bool take_shown(struct client *client, const char *text)
{
	struct buf *shown = &client->shown;
	size_t at = 0, len = strlen(text);
	while (at < shown->len) {
		const uint8_t *line = buf_data(shown) + at, *end = memchr(line, '\n', shown->len - at);
		size_t line_len = end ? (size_t)(end - line) : shown->len - at;
		at += line_len + (end ? 1 : 0);
		if (memmem(line, line_len, text, len)) {
			buf_consume(shown, at);
			return true;
		}
	}
	return false;
}

/* TEXT or "TEXT", then perhaps a time. A mere number is one only behind quotes: it is rather the end of the text, as in
 * "error 503". -EINVAL: neither. */
static int split_expect(char *arguments, const char **text, int64_t *us)
{
	char *rest = command_rest(arguments), *number = NULL;
	int64_t value;
	cut_spaces(rest);
	if (*rest == '"') {
		char *end = strrchr(++rest, '"');
		if (!end) {
			return -EINVAL;
		}
		*end = '\0';
		number = command_rest(end + 1);
	} else {
		char *last = rest + strlen(rest);
		while (last > rest && !strchr(" \t", last[-1])) {
			last--;
		}
		if (last > rest && strpbrk(last, "ms") && client_duration(last, &value) == 0) {
			number = last;
			last[-1] = '\0';
			cut_spaces(rest);
		}
	}
	if (number && *number) {
		if (client_duration(number, &value) < 0) {
			return -EINVAL;
		}
		*us = value;
	}
	*text = rest;
	return *rest ? 0 : -EINVAL;
}

static int run_expect(struct client *client, char *arguments)
{
	const char *text;
	int64_t us = client->options->timeout;
	if (split_expect(arguments, &text, &us) < 0) {
		return command_misuse(client, "/expect TEXT [TIME], such as /expect hello 5s");
	}
	int64_t deadline = clock_us() + us;
	bool expired = false;
	int rc = 0;
	while (!take_shown(client, text)) {
		if (rc < 0) {
			return rc;
		}
		if (expired) {
			show_error(client, "expected, but not seen: %s", text);
			return -ENOMSG;
		}
		rc = client_step(client->run, false, deadline, &expired);
	}
	return rc;
}

static struct client *find_client(struct client_run *run, const char *name)
{
	for (size_t i = 0; name && i < run->clients_n; i++) {
		if (strcmp(run->clients[i].account->name, name) == 0) {
			return &run->clients[i];
		}
	}
	return NULL;
}

static int run_as(struct client *client, char *arguments)
{
	const char *name = command_word(&arguments);
	char *line = command_rest(arguments);
	struct client *other = find_client(client->run, name);
	bool again = strncmp(line, "/as", 3) == 0 && strchr(" \t", line[3]); /* the end is found in it, too */
	if (!name || again) {
		return command_misuse(client, "/as NAME [COMMAND]");
	}
	if (!other) {
		show_error(client, "%s: no account of this run has that name", name);
		return -EINVAL;
	}
	if (*line) {
		return client_command(other, line);
	}
	client->run->current = other;
	show_line(other, "commands act for %s", other->bare);
	return 0;
}

static int run_quit(struct client *client, char *arguments)
{
	if (*command_rest(arguments)) {
		return command_misuse(client, "/quit");
	}
	client->run->quit = true;
	return 0;
}

static int run_help(struct client *client, char *arguments);

static const struct command commands[] = {
	{ "ping", "", "asks the server for a sign of life", run_ping },
	{ "to", "JID", "lines without / go there; a name alone is in the own domain", command_to },
	{ "msg", "[--id ID] JID TEXT", "one message", command_msg },
	{ "typing", "[JID]", "tells that you are typing", command_typing },
	{ "mark", "[--received] JID ID...", "tells that messages were read (or received only)", command_mark },
	{ "revoke", "ID|last [JID]", "takes a message back", command_revoke },
	{ "history", "JID [N]", "the last N messages (20) with JID", command_history },
	{ "show", "STATUS", "away, busy, offline, checkin, checkout, push, online, normal, dnd ...", run_show },
	{ "priority", "NUMBER", "which of the user's sessions messages go to", run_priority },
	{ "notify", "CATEGORY JID [DATA]", "a notice to another user", run_notify },
	{ "iq", "get|set XMLNS [NAME] [TO]", "any request", run_iq },
	{ "as", "NAME [COMMAND]", "commands act for that account from now on; or only COMMAND does", run_as },
	{ "raw", "on|off", "shows every stanza as XML", run_raw },
	{ "wait", "SECONDS", "waits", run_wait },
	{ "expect", "TEXT [TIME]", "waits for a line that has TEXT; fails when none comes", run_expect },
	{ "help", "", "this list", run_help },
	{ "quit", "", "ends (as the end of input does)", run_quit },
};

#define COMMANDS (sizeof(commands) / sizeof(*commands))

static int run_help(struct client *client, char *arguments)
{
	(void)arguments; /* whatever it is, the list is the answer */
	for (size_t i = 0; i < COMMANDS; i++) {
		char head[64];
		snprintf(head, sizeof(head), "/%s %s", commands[i].name, commands[i].arguments);
		show_plain(client, "%-32s %s", head, commands[i].help);
	}
	show_plain(client, "%-32s %s", "TEXT", "a message to the JID chosen with /to; //TEXT: one that begins with /");
	return 0;
}

int client_command(struct client *client, char *line)
{
	if (!line[strspn(line, " \t")]) {
		return 0;
	}
	/* Each account has a connection of its own, but a script means one thing after the other. */
	int rc = client->run->interactive ? 0 : client_settle_others(client);
	if (rc < 0) {
		return rc;
	}
	if (line[0] != '/' || line[1] == '/') {
		if (!client->chosen) {
			show_error(client, "to whom? choose with /to JID (/help lists the commands)");
			return -EDESTADDRREQ;
		}
		return client_chat(client, client->chosen, line[0] == '/' ? line + 1 : line, NULL);
	}
	char *rest = line + 1;
	const char *name = command_word(&rest);
	for (size_t i = 0; name && i < COMMANDS; i++) {
		if (strcmp(commands[i].name, name) == 0) {
			return commands[i].run(client, rest);
		}
	}
	show_error(client, "/%s: there is no such command; /help lists them", name ? name : "");
	return -EINVAL;
}
