/* SPDX-License-Identifier: MIT */
/* The command archive: status, vacuum and export. Owns how they are asked for and answered; an export is read page by
 * page, as fast as its reader takes it. */

#include "archive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#define PAGE 100                /* lines of an export that are in memory */
#define PAGE_BYTES (256 * 1024) /* ... about, beyond the first */
#define JIDS_MAX 1000           /* partners looked at in one job */

/* A command that is under way. */
struct command {
	struct command *next, **prev;
	struct stk_module *module;
	struct stk_answer *answer;
	bool working; /* a worker has it */
	struct store_status status;
	int rc;
	/* export */
	struct store_talk talk;
	char *lines[PAGE];
	size_t count, at, bytes;
	bool cut, end; /* the page is full; there are no more */
	char bare[STK_JID_MAX + 1];
};

static const struct stk_answers *answers_of(struct stk_module *module)
{
	const struct state *state = stk_data(module);
	return stk_service(state->answers, NULL);
}

/* ERROR NULL: success. One that a worker has does not come back any more: it stays that worker's. */
static void end_command(struct command *command, const char *error)
{
	const struct stk_answers *answers = answers_of(command->module);
	if (answers) {
		answers->end(command->answer, error);
	}
	*command->prev = command->next;
	if (command->next) {
		command->next->prev = command->prev;
	}
	if (command->working) {
		return;
	}
	for (size_t i = 0; i < command->count; i++) {
		free(command->lines[i]);
	}
	free(command);
}

static void end_with(struct command *command, int status)
{
	char text[256];
	snprintf(text, sizeof(text), ARCHIVE_FILE ": %s",
		 status == -ECANCELED ? "the module archive is going away" :
		 status == -ETIMEDOUT ? "a job that hangs was written off" : strerror(-status));
	end_command(command, status < 0 ? text : NULL);
}

/* Takes LINE, says it, and ends. */
static void end_with_line(struct command *command, json_t *line)
{
	const struct stk_answers *answers = answers_of(command->module);
	char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
	if (answers && text) {
		answers->line(command->answer, text);
	}
	free(text);
	json_decref(line);
	end_command(command, text ? NULL : "out of memory");
}

static void start_job(struct command *command, stk_work_fn *work, stk_done_fn *done)
{
	int rc = stk_job(command->module, 0, work, done, command);
	command->working = rc == 0;
	if (rc < 0) {
		end_with(command, rc);
	}
}

void command_lost(struct stk_module *module, const void *arg)
{
	const struct state *state = stk_data(module);
	struct command *command = state->commands;
	while (command && command != arg) {
		command = command->next;
	}
	if (command) {
		end_with(command, -ETIMEDOUT);
	}
}

/* ---- status ---- */

static void read_status(struct stk_module *module, void *arg)
{
	struct command *command = arg;
	struct sqlite3 *db = stk_db(module, ARCHIVE_FILE, NULL);
	command->rc = db ? store_status(db, &command->status) : -EIO;
}

static void on_status(struct stk_module *module, int status, void *arg)
{
	struct command *command = arg;
	const struct store_status *found = &command->status;
	(void)module;
	command->working = false;
	status = status < 0 ? status : command->rc;
	if (status < 0) {
		end_with(command, status);
		return;
	}
	json_t *text = json_sprintf(
		"%lld messages, %lld of them undelivered and %lld revoked, of %lld users; %lld bytes, %lld of them free",
		(long long)found->rows, (long long)found->undelivered, (long long)found->revoked,
		(long long)found->jids, (long long)found->bytes, (long long)found->free_bytes);
	end_with_line(command,
		      json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "messages", (json_int_t)found->rows, "undelivered",
				(json_int_t)found->undelivered, "revoked", (json_int_t)found->revoked, "users",
				(json_int_t)found->jids, "bytes", (json_int_t)found->bytes, "free_bytes",
				(json_int_t)found->free_bytes, "text", text));
}

/* ---- vacuum ---- */

static void on_vacuumed(struct stk_module *module, int status, const struct keeper_result *result, void *arg)
{
	(void)module;
	if (status < 0) {
		end_with(arg, status);
	} else {
		end_with_line(arg, json_pack("{s:I,s:I,s:o}", "deleted", (json_int_t)result->rows, "pages",
					     (json_int_t)result->pages, "text",
					     json_sprintf("%lld messages deleted, %lld pages given back",
							  (long long)result->rows, (long long)result->pages)));
	}
}

static void start_vacuum(struct command *command)
{
	int rc = keeper_run(command->module, on_vacuumed, command);
	if (rc < 0) {
		end_with(command, rc);
	}
}

/* ---- export ---- */

static int set_number(json_t *line, const char *name, int64_t number)
{
	return number == RECORD_NONE ? 0 : json_object_set_new(line, name, json_integer(number));
}

static int set_text(json_t *line, const char *name, const char *text)
{
	return text ? json_object_set_new(line, name, json_string(text)) : 0;
}

static char *print_row(const struct row *row)
{
	const struct record *record = &row->record;
	json_t *line = json_object(), *more = record->more ? json_loads(record->more, 0, NULL) : NULL;
	int rc = set_number(line, "seq", (int64_t)row->seq) | set_number(line, "time", record->time) |
		 set_text(line, "sender", record->sender) | set_text(line, "resource", record->resource) |
		 set_text(line, "recipient", record->recipient) |
		 set_text(line, "type", record_type_name(record->type)) | set_text(line, "id", record->id) |
		 set_number(line, "flag", row->flag) | set_number(line, "kind", record->kind) |
		 set_number(line, "client", record->client) | set_number(line, "version", record->version) |
		 set_text(line, "body", record->body);
	if (more) {
		rc |= json_object_set_new(line, "more", more);
	}
	char *text = rc == 0 ? json_dumps(line, JSON_COMPACT) : NULL;
	json_decref(line);
	return text;
}

static bool take_row(const struct row *row, void *arg)
{
	struct command *command = arg;
	char *line = print_row(row);
	if (!line) {
		command->rc = -ENOMEM;
		return false;
	}
	command->lines[command->count++] = line;
	command->bytes += strlen(line);
	command->talk.from = (struct store_point){ .time = row->record.time, .seq = (int64_t)row->seq };
	command->cut = command->count == PAGE || command->bytes > PAGE_BYTES;
	return !command->cut;
}

/* Partner by partner, since there is an index for talks and none for senders. */
static void read_page(struct stk_module *module, void *arg)
{
	struct command *command = arg;
	struct store_talk *talk = &command->talk;
	struct sqlite3 *db = stk_db(module, ARCHIVE_FILE, NULL);
	command->rc = db ? 0 : -EIO;
	if (db && !talk->user) {
		talk->user = store_find_jid(db, command->bare);
		command->rc = talk->user < 0 ? (int)talk->user : 0;
		command->end = talk->user <= 0;
	}
	command->cut = false;
	for (int i = 0; i < JIDS_MAX && command->rc == 0 && !command->cut && !command->end; i++) {
		if (talk->partner) {
			int rc = store_each_of_talk(db, talk, take_row, command);
			command->rc = command->rc < 0 ? command->rc : rc;
		}
		if (command->rc == 0 && !command->cut) {
			int64_t next = store_next_jid(db, talk->partner);
			command->rc = next < 0 ? (int)next : 0;
			command->end = next <= 0;
			talk->partner = next;
			talk->from = (struct store_point){ .time = INT64_MIN, .seq = 0 };
		}
	}
}

static void send_page(struct command *command);

static void on_page(struct stk_module *module, int status, void *arg)
{
	struct command *command = arg;
	(void)module;
	command->working = false;
	status = status < 0 ? status : command->rc;
	if (status < 0) {
		end_with(command, status);
	} else if (!command->talk.user) {
		end_command(command, "there are no messages of this user");
	} else {
		send_page(command);
	}
}

static void on_room(struct stk_answer *answer, void *arg)
{
	(void)answer;
	send_page(arg);
}

static void send_page(struct command *command)
{
	const struct stk_answers *answers = answers_of(command->module);
	int rc = answers ? 0 : -EPIPE;
	while (command->at < command->count && rc == 0) {
		rc = answers->line(command->answer, command->lines[command->at]);
		if (rc == 0) {
			free(command->lines[command->at++]);
			command->lines[command->at - 1] = NULL;
		}
	}
	if (rc == -EAGAIN) {
		answers->wait(command->answer, on_room, command);
	} else if (rc < 0 || command->end) {
		end_command(command, NULL);
	} else {
		command->at = command->count = command->bytes = 0;
		start_job(command, read_page, on_page);
	}
}

static void start_export(struct stk_module *module, struct command *command, const char *user)
{
	char jid[STK_JID_MAX + 1], bare[STK_JID_MAX + 1];
	int len = user ? snprintf(jid, sizeof(jid), "%s%s%s", user, strchr(user, '@') ? "" : "@",
				  strchr(user, '@') ? "" : stk_domains(module)[0])
		       : -1;
	if (len < 0 || len >= (int)sizeof(jid) || stk_jid_bare(jid, bare, sizeof(bare)) < 0 ||
	    stk_jid_fold(bare, command->bare, sizeof(command->bare)) < 0) {
		end_command(command, "export wants a user: archive export USER");
		return;
	}
	command->talk = (struct store_talk){ .to = { .time = INT64_MAX, .seq = INT64_MAX }, .most = PAGE };
	start_job(command, read_page, on_page);
}

/* ---- all ---- */

static void run(struct stk_module *module, const char *args, struct stk_answer *answer)
{
	struct state *state = stk_data(module);
	struct command *command = calloc(1, sizeof(*command));
	json_t *root = command ? json_loads(args, 0, NULL) : NULL;
	if (!root) {
		const struct stk_answers *answers = answers_of(module);
		if (answers) {
			answers->end(answer, command ? "the arguments are no JSON object" : "out of memory");
		}
		free(command);
		return;
	}
	*command = (struct command){
		.next = state->commands, .prev = &state->commands, .module = module, .answer = answer
	};
	if (state->commands) {
		state->commands->prev = &command->next;
	}
	state->commands = command;
	const char *what = json_string_value(json_object_get(root, "do")),
		   *user = json_string_value(json_object_get(root, "user"));
	if (what && strcmp(what, "status") == 0) {
		start_job(command, read_status, on_status);
	} else if (what && strcmp(what, "vacuum") == 0) {
		start_vacuum(command);
	} else if (what && strcmp(what, "export") == 0) {
		start_export(module, command, user ? user : json_string_value(json_object_get(root, "name")));
	} else {
		end_command(command, "which? status, vacuum or export");
	}
	json_decref(root);
}

int command_init(struct stk_module *module)
{
	static const struct stk_command table = {
		.size = sizeof(table),
		.usage = "archive status | vacuum | export USER",
		.help = "Tells how much is kept, cleans up now, or prints all messages of a user as JSON lines",
		.run = run,
	};
	struct state *state = stk_data(module);
	state->answers = stk_use(module, "answers", 1, 0);
	return state->answers ? stk_provide(module, "command:archive", 1, 0, &table) : -ENOMEM;
}

void command_fini(struct state *state)
{
	while (state->commands) {
		end_with(state->commands, -ECANCELED);
	}
}
