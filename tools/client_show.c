/* SPDX-License-Identifier: MIT */
/* What the terminal client says: lines, errors, the prompt, stanzas as XML or in plain words. Owns how text from others
 * is made harmless for a terminal: every line passes show_escape() as a whole. The words for messages are in
 * client_words.c, and what is done about a stanza is not decided here. */

#include "tools/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/stanza.h"
#include "core/xml.h"

#define SHOWN_MAX (64u * 1024) /* bytes of lines kept for /expect */

/* ---- text ---- */

/* Reads one UTF-8 character of N bytes at most. Returns its length; 0: it is none. */
static size_t read_character(const unsigned char *text, size_t n, uint32_t *character)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = text[0] < 0x80 ? 1 : text[0] >> 5 == 6 ? 2 : text[0] >> 4 == 14 ? 3 : text[0] >> 3 == 30 ? 4 : 0;
	if (!len || len > n) {
		return 0;
	}
	*character = len == 1 ? text[0] : text[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if (text[i] >> 6 != 2) {
			return 0;
		}
		*character = *character << 6 | (text[i] & 0x3fu);
	}
	bool bad = *character < least[len] || *character > 0x10ffff || (*character >= 0xd800 && *character <= 0xdfff);
	return bad ? 0 : len;
}

/* Controls, marks and overrides of writing direction, and the line breaks beyond ASCII. */
static bool is_harmful(uint32_t character)
{
	return character < 0x20 || (character >= 0x7f && character <= 0x9f) || character == 0x61c ||
	       character == 0x200e || character == 0x200f || (character >= 0x2028 && character <= 0x202e) ||
	       (character >= 0x2066 && character <= 0x206f) || (character >= 0xfff9 && character <= 0xfffb) ||
	       (character >= 0xe0000 && character <= 0xe007f);
}

static int put_escape(uint32_t character, bool xml, struct buf *out)
{
	char escape[16];
	int len;
	if (xml) {
		len = snprintf(escape, sizeof(escape), "&#%u;", (unsigned)character);
	} else if (character == '\n' || character == '\r' || character == '\t') {
		len = snprintf(escape, sizeof(escape), "\\%c", character == '\n' ? 'n' : character == '\r' ? 'r' : 't');
	} else {
		len = character > 0xffff ? snprintf(escape, sizeof(escape), "\\U%08x", (unsigned)character)
		      : character > 0xff ? snprintf(escape, sizeof(escape), "\\u%04x", (unsigned)character)
					 : snprintf(escape, sizeof(escape), "\\x%02x", (unsigned)character);
	}
	return buf_append(out, escape, (size_t)len);
}

int show_escape(const char *text, bool xml, struct buf *out)
{
	size_t left = strlen(text);
	int rc = 0;
	while (left && rc == 0) {
		uint32_t character = (unsigned char)*text;
		size_t len = read_character((const unsigned char *)text, left, &character);
		if (!len) {
			rc = put_escape((unsigned char)*text, false, out); /* a byte that is no character */
			len = 1;
		} else if (is_harmful(character)) {
			rc = put_escape(character, xml, out);
		} else {
			rc = buf_append(out, text, len);
		}
		text += len;
		left -= len;
	}
	return rc;
}

/* ---- lines ---- */

static void clear_prompt(struct client_run *run)
{
	if (run->prompted) {
		fputs("\r\033[K", stdout);
		run->prompted = false;
	}
}

/* Whose line it is, where there are several accounts. */
static int put_label(const struct client *client, struct buf *line)
{
	if (client->run->clients_n == 1) {
		return 0;
	}
	int rc = buf_append(line, "[", 1);
	rc = rc < 0 ? rc : show_escape(client->account->name, false, line);
	return rc < 0 ? rc : buf_append(line, "] ", 2);
}

void show_prompt(struct client_run *run)
{
	const char *chosen = run->current->chosen;
	struct buf text = { 0 };
	if (!run->interactive || run->prompted || !isatty(STDOUT_FILENO)) {
		return;
	}
	int rc = put_label(run->current, &text);
	rc = rc < 0 || !chosen ? rc : show_escape(chosen, false, &text);
	rc = rc < 0 ? rc : buf_append(&text, "> ", 2);
	if (rc == 0) {
		fwrite(buf_data(&text), 1, text.len, stdout);
	}
	buf_fini(&text);
	fflush(stdout);
	run->prompted = true;
}

static void keep_shown(struct client *client, const uint8_t *line, size_t len)
{
	struct buf *shown = &client->shown;
	if (len >= SHOWN_MAX) {
		buf_consume(shown, shown->len);
	}
	while (shown->len && shown->len + len >= SHOWN_MAX) {
		const uint8_t *end = memchr(buf_data(shown), '\n', shown->len);
		buf_consume(shown, end ? (size_t)(end - buf_data(shown)) + 1 : shown->len);
	}
	if (buf_append(shown, line, len) < 0 || buf_append(shown, "\n", 1) < 0) {
		buf_fini(shown);
	}
}

enum how { TIMED, UNTIMED, PLAIN, XML_IN, XML_OUT, ERROR };

static void write_line(struct client *client, enum how how, const char *prefix, const char *text)
{
	struct buf line = { 0 };
	bool xml = how == XML_IN || how == XML_OUT;
	clear_prompt(client->run);
	int rc = how == PLAIN ? 0 : put_label(client, &line);
	rc = rc < 0 || !xml ? rc : buf_append(&line, prefix, strlen(prefix));
	size_t start = line.len;
	if (rc < 0 || show_escape(text, xml, &line) < 0 || !buf_reserve(&line, 1)) {
		fputs("startalk-client: out of memory\n", stderr);
		buf_fini(&line);
		return;
	}
	if (how == ERROR) {
		fflush(stdout);
		fprintf(stderr, "startalk-client: %.*s\n", (int)line.len, (const char *)buf_data(&line));
	} else {
		fputs(xml ? "" : prefix, stdout);
		fwrite(buf_data(&line), 1, line.len, stdout);
		putchar('\n');
		fflush(stdout);
	}
	if (how == TIMED || how == UNTIMED || how == XML_IN) {
		keep_shown(client, buf_data(&line) + start, line.len - start);
	}
	buf_fini(&line);
}

static void write_format(struct client *client, enum how how, const char *prefix, const char *fmt, va_list args)
	__attribute__((format(printf, 4, 0)));

static void write_format(struct client *client, enum how how, const char *prefix, const char *fmt, va_list args)
{
	char *text = NULL;
	if (vasprintf(&text, fmt, args) < 0) {
		fputs("startalk-client: out of memory\n", stderr);
		return;
	}
	write_line(client, how, prefix, text);
	free(text);
}

void show_line(struct client *client, const char *fmt, ...)
{
	char when[16] = "";
	time_t now = time(NULL);
	struct tm local;
	va_list args;
	if (localtime_r(&now, &local)) {
		strftime(when, sizeof(when), "%H:%M:%S ", &local);
	}
	va_start(args, fmt);
	write_format(client, TIMED, when, fmt, args);
	va_end(args);
}

void show_untimed(struct client *client, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	write_format(client, UNTIMED, "", fmt, args);
	va_end(args);
}

void show_plain(struct client *client, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	write_format(client, PLAIN, "", fmt, args);
	va_end(args);
}

void show_error(struct client *client, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	write_format(client, ERROR, "", fmt, args);
	va_end(args);
}

/* STANZA as a string of XML to be freed, or NULL. */
static char *print_xml(const struct stk_stanza *stanza)
{
	struct buf text = { 0 };
	if (xml_print(stanza, &text) < 0 || buf_append(&text, "", 1) < 0) {
		buf_fini(&text);
		return NULL;
	}
	return (char *)text.data; /* nothing was taken from its front */
}

void show_raw(struct client *client, const char *prefix, const struct stk_stanza *stanza, bool incoming)
{
	char *xml = print_xml(stanza);
	write_line(client, incoming ? XML_IN : XML_OUT, prefix, xml ? xml : "(it cannot be shown as XML)");
	free(xml);
}

/* ---- words ---- */

static const char *category_name(const char *category)
{
	static const struct {
		int category;
		const char *name;
	} categories[] = {
		{ 1, "organisation changed" },
		{ 2, "session list" },
		{ 3, "navigation version" },
		{ 4, "operator's notice" },
		{ 6, "personal configuration" },
		{ 7, "message notice" },
		{ 8, "calendar" },
		{ 9, "online devices" },
		{ 10, "log wanted" },
		{ 11, "special notice for clients" },
		{ 12, "work world" },
		{ 13, "hotline" },
		{ 14, "medals" },
		{ 15, "medals" },
		{ 16, "discover unread" },
		{ 98, "global notice" },
		{ 99, "specified notice" },
		{ 100, "log out" },
	};
	for (size_t i = 0; i < sizeof(categories) / sizeof(*categories); i++) {
		if (categories[i].category == atoi(category)) {
			return categories[i].name;
		}
	}
	return "unknown category";
}

void show_name(const struct client *client, const char *jid, bool device, char *out, size_t size)
{
	jid = jid ? jid : client->bare;
	const char *slash = strchr(jid, '/'), *at = strchr(jid, '@'), *own = strchr(client->bare, '@');
	int bare_len = (int)(slash ? slash - jid : (ptrdiff_t)strlen(jid)), len = bare_len;
	if (at && own && at < jid + bare_len && strlen(own) == (size_t)(jid + bare_len - at) &&
	    strncmp(at, own, strlen(own)) == 0) {
		len = (int)(at - jid);
	}
	const char *platform = device && slash ? strstr(slash, "P[") : NULL;
	const char *end = platform ? strchr(platform, ']') : NULL;
	if (end) {
		snprintf(out, size, "%.*s (%.*s)", len, jid, (int)(end + 1 - platform), platform);
	} else {
		snprintf(out, size, "%.*s", len, jid);
	}
}

/* The strings of a JSON array of strings, parted by commas; false when DATA is something else, or too long. */
static bool list_strings(const char *data, char *out, size_t size)
{
	size_t len = 0;
	bool inside = false;
	if (data[0] != '[' || !data[1] || data[strlen(data) - 1] != ']' || strpbrk(data, "\\{}")) {
		return false;
	}
	for (const char *at = data + 1; at[1]; at++) {
		if (*at == '"') {
			inside = !inside;
			continue;
		}
		if (!inside && *at != ',' && *at != ' ') {
			return false;
		}
		if (!inside && *at == ' ') {
			continue;
		}
		if (len + 3 > size) {
			return false;
		}
		out[len++] = *at;
		if (!inside) {
			out[len++] = ' ';
		}
	}
	out[len] = '\0';
	return !inside;
}

static void show_notice(struct client *client, const struct stk_node *root)
{
	const char *category = stk_node_attr(root, "category"), *data = stk_node_attr(root, "data");
	const char *from = stk_node_attr(root, "from");
	char devices[512], name[SHOW_NAME_SIZE];
	size_t bare_len = strlen(client->bare);
	bool own = !from || (strncmp(from, client->bare, bare_len) == 0 && (!from[bare_len] || from[bare_len] == '/'));
	category = category ? category : "1";
	data = data ? data : "";
	show_name(client, from, true, name, sizeof(name));
	if (strcmp(category, "9") == 0 && list_strings(data, devices, sizeof(devices))) {
		show_line(client, "%s%s%s: %s", category_name(category), own ? "" : " of ", own ? "" : name,
			  *devices ? devices : "none");
		return;
	}
	show_line(client, "%s (notice %s)%s%s: %s", category_name(category), category, own ? "" : " from ",
		  own ? "" : name, data);
}

/* What has no words of its own. */
static void show_xml(struct client *client, const char *what, const struct stk_stanza *stanza)
{
	char *xml = print_xml(stanza);
	show_line(client, "%s: %s", what, xml ? xml : "(it cannot be shown as XML)");
	free(xml);
}

static void show_presence(struct client *client, const struct stk_stanza *stanza)
{
	const struct stk_node *root = stk_stanza_root(stanza);
	const char *show = stk_node_text(stk_node_child(root, "show", NULL)), *type = stk_stanza_type(stanza);
	const char *priority = stk_node_text(stk_node_child(root, "priority", NULL));
	char name[SHOW_NAME_SIZE];
	show_name(client, stk_stanza_from(stanza), true, name, sizeof(name));
	if (type && strcmp(type, "notify") == 0) {
		show_notice(client, root);
	} else if (!type && !stk_stanza_xmlns(stanza) && show) {
		show_line(client, "%s is %s%s%s", name, show, priority ? ", priority " : "", priority ? priority : "");
	} else {
		show_xml(client, "presence", stanza);
	}
}

static void show_iq(struct client *client, const struct stk_stanza *stanza)
{
	const char *type = stk_stanza_type(stanza);
	char why[512];
	if (type && strcmp(type, "error") == 0) {
		show_failure(stanza, why, sizeof(why));
		show_line(client, "an error that nothing waits for: %s", why);
	} else if (type && strcmp(type, "result") == 0) {
		show_xml(client, "an answer that nothing waits for", stanza);
	} else {
		show_xml(client, "the server asks", stanza);
	}
}

void show_stanza(struct client *client, const struct stk_stanza *stanza)
{
	const struct stk_node *root = stk_stanza_root(stanza);
	const char *code, *reason;
	switch (stanza_element(stanza)) {
	case STK_IQ: show_iq(client, stanza); break;
	case STK_PRESENCE: show_presence(client, stanza); break;
	case STK_MESSAGE: show_message(client, stanza); break;
	case STANZA_STREAM_END:
		code = stk_node_attr(root, "code");
		reason = stk_node_attr(root, "reason");
		show_line(client, "stream ended by the server: %s (%s)%s%s", code ? code : "no code", show_end(code),
			  reason && *reason ? ": " : "", reason ? reason : "");
		break;
	default: show_xml(client, "unexpected", stanza); break;
	}
}
