/* SPDX-License-Identifier: MIT */
/* Reads scripts: cuts a file into steps and each step into its words. Owns the grammar, and every complaint about it
 * names file and line and what is allowed there. Nothing is done here. */

#include "tools/play.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/stanza.h"
#include "tools/xml_parse.h"

#define SCRIPT_MAX (4u * 1024 * 1024)

struct reader {
	struct play_script *script;
	struct play_step *step;
	char *more;   /* the indented lines below it, or NULL */
	char **users; /* the names that were declared */
	size_t users_n;
	int rc;
};

static const char actor_verbs[] = "connects, disconnects, sends, receives, is refused, is disconnected";
static const char server_verbs[] =
	"starts, stops, restarts, reloads, fails to start, fails to reload, log has, log may have";
static const char first_words[] =
	"a name of a user, server, user, with, without, timeout, file, shell, wait, SECTION option";

__attribute__((format(printf, 2, 3))) static void fault(struct reader *reader, const char *fmt, ...)
{
	va_list args;
	fprintf(stderr, "%s:%u: ", reader->script->file, reader->step->line);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	reader->rc = -1;
}

/* ---- words ---- */

/* The next word of *AT, or "" at the end. */
static char *next_word(char **at)
{
	char *word = *at + strspn(*at, " \t\n");
	char *end = word + strcspn(word, " \t\n");
	*at = *end ? end + 1 : end;
	*end = '\0';
	return word;
}

/* Is WORD next? Then it is taken. */
static bool take(char **at, const char *words)
{
	const char *text = *at + strspn(*at, " \t\n");
	size_t len = strlen(words);
	if (strncmp(text, words, len) != 0 || (text[len] && !isspace((unsigned char)text[len]))) {
		return false;
	}
	*at += (size_t)(text - *at) + len;
	return true;
}

/* A word, or text in double quotes, in which \" and \\ stand for these. NULL: told. */
static char *take_text(struct reader *reader, char **at, const char *what)
{
	char *text = *at + strspn(*at, " \t\n");
	if (*text != '"') {
		char *word = next_word(at);
		if (!*word) {
			fault(reader, "%s is missing", what);
		}
		return *word ? play_must(strdup(word)) : NULL;
	}
	char *out = play_must(strdup(text)), *to = out, *from = text + 1;
	while (*from && *from != '"') {
		from += *from == '\\' && (from[1] == '"' || from[1] == '\\');
		*to++ = *from++;
	}
	*to = '\0';
	if (*from != '"') {
		fault(reader, "the quote is not closed: %s", text);
		free(out);
		return NULL;
	}
	*at = from + 1;
	return out;
}

static int64_t take_time(struct reader *reader, char **at)
{
	int64_t time = -1;
	char *word = next_word(at);
	if (!*word || client_duration(word, &time) < 0) {
		fault(reader, "'%s' is no length of time: write 500ms, 5s or 2min", word);
	}
	return time;
}

static void expect_end(struct reader *reader, const char *at)
{
	at += strspn(at, " \t\n");
	if (*at) {
		fault(reader, "'%s' is too much here", at);
	}
}

/* ---- steps without actor ---- */

static void read_with(struct reader *reader, char *at)
{
	at += strspn(at, " \t");
	if (!*at || at[strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789_, \t")]) {
		fault(reader, "expected names of modules, parted by commas: with archive, admin");
	}
	reader->step->text = play_must(strdup(at));
}

static void read_user(struct reader *reader, char *at)
{
	struct play_step *step = reader->step;
	const char *name = next_word(&at);
	step->actor = play_must(strdup(name));
	if (!*name || strpbrk(name, "/@\"") || !take(&at, "password")) {
		fault(reader, "write: user NAME password PASSWORD [without account]");
		return;
	}
	step->text = take_text(reader, &at, "the password");
	step->no_account = take(&at, "without account");
	expect_end(reader, at);
	reader->users = play_must(realloc(reader->users, (reader->users_n + 1) * sizeof(*reader->users)));
	reader->users[reader->users_n++] = step->actor;
}

/* KEY = VALUE, the value as it is written in a configuration file. */
static void read_option(struct reader *reader, const char *section, char *at)
{
	struct play_step *step = reader->step;
	char *key = at + strspn(at, " \t"), *equals = strchr(key, '=');
	size_t len = strcspn(key, " \t=");
	if (!equals || !len || strspn(key + len, " \t") != (size_t)(equals - key) - len) {
		fault(reader, "write: %s option KEY = VALUE", section);
		return;
	}
	char *value = equals + 1 + strspn(equals + 1, " \t");
	step->actor = play_must(strdup(section));
	step->key = play_must(strndup(key, len));
	step->text = play_must(strdup(value));
}

static void read_file(struct reader *reader, char *at)
{
	const char *name = next_word(&at);
	if (!*name || strchr(name, '/') || name[0] == '.') {
		fault(reader, "write: file NAME, without folders, and what is in it in indented lines below");
	}
	expect_end(reader, at);
	reader->step->key = play_must(strdup(name));
	reader->step->text = reader->more ? reader->more : play_must(strdup(""));
	reader->more = NULL;
}

static void read_shell(struct reader *reader, char *at)
{
	at += strspn(at, " \t");
	if (!*at && !reader->more) {
		fault(reader, "write: shell COMMAND, or the commands in indented lines below");
	}
	reader->step->text = play_format("%s\n%s", at, reader->more ? reader->more : "");
	free(reader->more);
	reader->more = NULL;
}

static void read_reload(struct reader *reader, char *at)
{
	struct play_step *step = reader->step;
	if (take(&at, "with")) {
		char *section = take(&at, "option") ? NULL : next_word(&at);
		if (section && !take(&at, "option")) {
			fault(reader, "write: server reloads with [SECTION] option KEY = VALUE");
			return;
		}
		read_option(reader, section ? section : "module", at);
		return;
	}
	if (step->verb == PLAY_NO_RELOAD && take(&at, "saying")) {
		step->text = take_text(reader, &at, "the text");
	}
	expect_end(reader, at);
}

static void read_log(struct reader *reader, char *at)
{
	struct play_step *step = reader->step;
	if (take(&at, "may have")) {
		step->verb = PLAY_LOG_MAY;
	} else if (take(&at, "has no")) {
		step->verb = PLAY_LOG_HAS_NOT;
	} else if (take(&at, "has")) {
		step->verb = PLAY_LOG_HAS;
	} else {
		fault(reader, "what of the log? It can: has \"TEXT\", has no \"TEXT\", may have \"TEXT\"");
		return;
	}
	step->text = take_text(reader, &at, "the text in quotes");
	if (step->verb == PLAY_LOG_HAS && take(&at, "within")) {
		step->time = take_time(reader, &at);
	}
	expect_end(reader, at);
}

static void read_server(struct reader *reader, char *at)
{
	static const struct {
		const char *words;
		enum play_verb verb;
	} verbs[] = { { "starts", PLAY_START },
		      { "stops", PLAY_STOP },
		      { "restarts", PLAY_RESTART },
		      { "reloads", PLAY_RELOAD },
		      { "fails to start", PLAY_NO_START },
		      { "fails to reload", PLAY_NO_RELOAD } };
	struct play_step *step = reader->step;
	if (take(&at, "log")) {
		read_log(reader, at);
		return;
	}
	size_t i = 0, n = sizeof(verbs) / sizeof(*verbs);
	while (i < n && !take(&at, verbs[i].words)) {
		i++;
	}
	if (i == n) {
		fault(reader, "'%s' is nothing that the server does: %s", next_word(&at), server_verbs);
		return;
	}
	step->verb = verbs[i].verb;
	if (step->verb == PLAY_RELOAD || step->verb == PLAY_NO_RELOAD) {
		read_reload(reader, at);
		return;
	}
	if (step->verb == PLAY_NO_START && take(&at, "saying")) {
		step->text = take_text(reader, &at, "the text");
	}
	expect_end(reader, at);
}

/* ---- steps of actors ---- */

static const char *nothing(const char *name, void *arg)
{
	(void)name;
	(void)arg;
	return "";
}

/* The rest of the step is a stanza. */
static void read_stanza(struct reader *reader, const char *at)
{
	char *text = play_format("%s\n%s", at, reader->more ? reader->more : ""), *unknown = NULL;
	struct stk_stanza *stanza = NULL;
	const char *why = NULL;
	free(reader->more);
	reader->more = NULL;
	char *expanded = play_expand(text, true, nothing, NULL, &unknown);
	if (text[strspn(text, " \t\n")] != '<') {
		fault(reader,
		      "expected a stanza, <iq .../>, <message ...> or <presence ...>, here or in indented lines below");
	} else if (xml_parse(expanded, strlen(expanded), &stanza, &why) < 0) {
		fault(reader, "the stanza: %s", why);
	} else if (stanza_element(stanza) > STK_PRESENCE) {
		fault(reader, "the stanza is no iq, message or presence");
	}
	stk_stanza_unref(stanza);
	free(expanded);
	reader->step->text = text;
}

static void read_receives(struct reader *reader, char *at)
{
	struct play_step *step = reader->step;
	step->verb = PLAY_RECEIVE;
	if (take(&at, "nothing")) {
		step->verb = PLAY_NOTHING;
		step->time = take(&at, "for") ? take_time(reader, &at) : -1;
		expect_end(reader, at);
		return;
	}
	if (take(&at, "no")) {
		step->verb = PLAY_RECEIVE_NOT;
	}
	step->exact = take(&at, "exactly");
	if (take(&at, step->verb == PLAY_RECEIVE ? "within" : "for")) {
		step->time = take_time(reader, &at);
	}
	read_stanza(reader, at);
}

static void read_connects(struct reader *reader, char *at)
{
	struct play_step *step = reader->step;
	for (;;) {
		if (step->verb == PLAY_CONNECT && !step->key && take(&at, "as")) {
			step->key = take_text(reader, &at, "the resource");
		} else if (!step->tls && take(&at, "over tls")) {
			step->tls = reader->script->tls = true;
		} else if (step->verb == PLAY_REFUSED && !step->text && take(&at, "saying")) {
			step->text = take_text(reader, &at, "the text");
		} else {
			break;
		}
	}
	expect_end(reader, at);
}

static void read_ended(struct reader *reader, char *at)
{
	struct play_step *step = reader->step;
	if (take(&at, "with")) {
		char *end, *word = next_word(&at);
		step->code = (int)strtol(word, &end, 10);
		if (end == word || *end || step->code < 1 || step->code > 999) {
			fault(reader, "'%s' is no code of a StreamEnd: 100 to 299", word);
		}
	}
	if (take(&at, "within")) {
		step->time = take_time(reader, &at);
	}
	expect_end(reader, at);
}

static void check_user(struct reader *reader, const char *actor)
{
	size_t len = strcspn(actor, "/");
	for (size_t i = 0; i < reader->users_n; i++) {
		if (strlen(reader->users[i]) == len && strncmp(reader->users[i], actor, len) == 0) {
			return;
		}
	}
	fault(reader, "there is no user '%.*s': write 'user %.*s password PASSWORD' above", (int)len, actor, (int)len,
	      actor);
}

static void read_actor(struct reader *reader, const char *actor, char *at)
{
	struct play_step *step = reader->step;
	step->actor = play_must(strdup(actor));
	if (take(&at, "connects")) {
		step->verb = PLAY_CONNECT;
		read_connects(reader, at);
	} else if (take(&at, "is refused")) {
		step->verb = PLAY_REFUSED;
		read_connects(reader, at);
	} else if (take(&at, "is disconnected")) {
		step->verb = PLAY_ENDED;
		read_ended(reader, at);
	} else if (take(&at, "disconnects")) {
		step->verb = PLAY_DISCONNECT;
		expect_end(reader, at);
	} else if (take(&at, "sends")) {
		step->verb = PLAY_SEND;
		read_stanza(reader, at);
	} else if (take(&at, "receives")) {
		read_receives(reader, at);
	} else {
		const char *word = next_word(&at);
		fault(reader, "'%s' does not know '%s'; an actor %s; a line begins with %s", actor, word, actor_verbs,
		      first_words);
		return;
	}
	check_user(reader, actor);
}

static void read_timed(struct reader *reader, enum play_verb verb, char *at)
{
	reader->step->verb = verb;
	reader->step->time = take_time(reader, &at);
	expect_end(reader, at);
}

/* LINE is the step's first line and is cut up. */
static void read_step(struct reader *reader, char *line)
{
	static const struct {
		const char *word;
		enum play_verb verb;
		void (*read)(struct reader *reader, char *at);
	} words[] = { { "with", PLAY_WITH, read_with },    { "without", PLAY_WITHOUT, read_with },
		      { "user", PLAY_USER, read_user },    { "file", PLAY_FILE, read_file },
		      { "shell", PLAY_SHELL, read_shell }, { "server", PLAY_START, read_server } };
	char *at = line, *first = next_word(&at);
	if (take(&at, "option")) {
		reader->step->verb = PLAY_OPTION;
		read_option(reader, first, at);
		return;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (strcmp(words[i].word, first) == 0) {
			reader->step->verb = words[i].verb;
			words[i].read(reader, at);
			return;
		}
	}
	if (strcmp(first, "timeout") == 0 || strcmp(first, "wait") == 0) {
		read_timed(reader, *first == 't' ? PLAY_TIMEOUT : PLAY_WAIT, at);
		return;
	}
	read_actor(reader, first, at);
}

/* ---- the file ---- */

static char *read_all(FILE *file, size_t *len)
{
	char *text = NULL;
	size_t cap = 0;
	*len = 0;
	do {
		if (*len == cap) {
			cap = cap ? cap * 2 : 65536;
			text = play_must(realloc(text, cap + 1));
		}
		*len += fread(text + *len, 1, cap - *len, file);
	} while (!feof(file) && !ferror(file) && *len < SCRIPT_MAX);
	text[*len] = '\0';
	return text;
}

static char *open_script(const char *name)
{
	size_t len;
	FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
	if (!file) {
		fprintf(stderr, "startalk-module-test: %s: %s\n", name, strerror(errno));
		return NULL;
	}
	char *text = read_all(file, &len);
	const char *why = ferror(file)         ? "cannot be read"
			  : len >= SCRIPT_MAX  ? "is too long"
			  : strlen(text) < len ? "is no text"
					       : NULL;
	if (file != stdin) {
		fclose(file);
	}
	if (why) {
		fprintf(stderr, "startalk-module-test: %s: %s\n", name, why);
		free(text);
		return NULL;
	}
	return text;
}

/* Takes the indented lines at *AT, and blank ones among them, without the indent of the first. */
static char *take_indented(char **at, unsigned *line)
{
	struct buf out = { 0 };
	size_t indent = 0, used = 0; /* up to the last line that is not blank */
	while (**at == ' ' || **at == '\t' || **at == '\n' || **at == '\r') {
		size_t blank = strspn(*at, " \t\r"), len = strcspn(*at, "\n");
		indent = indent || blank >= len ? indent : blank;
		size_t skip = blank < indent ? blank : indent;
		skip = skip < len ? skip : len;
		if (buf_append(&out, *at + skip, len - skip) < 0 || buf_append(&out, "\n", 1) < 0) {
			play_must(NULL);
		}
		used = blank >= len ? used : out.len;
		*line += 1;
		*at += len + ((*at)[len] == '\n');
		if (!**at) {
			break;
		}
	}
	char *text = used ? play_must(strndup((const char *)buf_data(&out), used)) : NULL;
	buf_fini(&out);
	return text;
}

int play_read(const char *file, struct play_script *script)
{
	*script = (struct play_script){ .file = strcmp(file, "-") == 0 ? "standard input" : file };
	struct play_step **last = &script->steps;
	struct reader reader = { .script = script };
	char *text = open_script(file);
	if (!text) {
		return -1;
	}
	unsigned line = 0;
	for (char *at = text; *at;) {
		size_t len = strcspn(at, "\n"), blank = strspn(at, " \t\r");
		char *said = play_must(strndup(at, len));
		at += len + (at[len] == '\n');
		line++;
		if (blank >= len || said[blank] == '#') {
			free(said);
			continue;
		}
		said[strcspn(said, "\r")] = '\0';
		struct play_step *step = play_must(calloc(1, sizeof(*step)));
		*step = (struct play_step){ .line = line, .said = said, .time = -1 };
		*last = reader.step = step;
		last = &step->next;
		script->steps_n++;
		if (blank) {
			fault(&reader, "an indented line belongs to the one above it, and there is none that wants it");
			continue;
		}
		reader.more = take_indented(&at, &line);
		char *words = play_must(strdup(said));
		read_step(&reader, words);
		if (reader.more && reader.rc == 0) {
			fault(&reader, "the indented lines below this one mean nothing here");
		}
		free(words);
		free(reader.more);
	}
	free(reader.users);
	free(text);
	return reader.rc;
}

void play_script_free(struct play_script *script)
{
	while (script->steps) {
		struct play_step *step = script->steps;
		script->steps = step->next;
		free(step->said);
		free(step->actor);
		free(step->key);
		free(step->text);
		free(step);
	}
}

/* ---- ${NAME} ---- */

static void put(struct buf *out, const char *text, size_t len)
{
	if (buf_append(out, text, len) < 0) {
		play_must(NULL);
	}
}

static void put_escaped(struct buf *out, const char *text)
{
	for (; *text; text++) {
		const char *as = *text == '&'    ? "&amp;"
				 : *text == '<'  ? "&lt;"
				 : *text == '\'' ? "&apos;"
				 : *text == '"'  ? "&quot;"
						 : NULL;
		put(out, as ? as : text, as ? strlen(as) : 1);
	}
}

char *play_expand(const char *text, bool xml, const char *(*value)(const char *name, void *arg), void *arg,
		  char **unknown)
{
	struct buf out = { 0 };
	while (*text) {
		size_t plain = strcspn(text, "$"), len;
		put(&out, text, plain);
		text += plain;
		len = text[0] && text[1] == '{' ? strcspn(text, "}") : 0;
		if (!len || !text[len]) {
			put(&out, text, *text ? 1 : 0);
			text += *text ? 1 : 0;
			continue;
		}
		char *name = play_must(strndup(text + 2, len - 2));
		const char *is = value(name, arg);
		if (!is) {
			*unknown = name;
			buf_fini(&out);
			return NULL;
		}
		free(name);
		if (xml) {
			put_escaped(&out, is);
		} else {
			put(&out, is, strlen(is));
		}
		text += len + 1;
	}
	put(&out, "", 1);
	return (char *)out.data; /* nothing was taken from its front */
}
