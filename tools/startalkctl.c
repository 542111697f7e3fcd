/* SPDX-License-Identifier: MIT */
/* startalkctl: makes one request of the command line and shows the answer. Knows how the words of common commands are
 * called; what a command does, and which there are, is the server's business. */

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tools/ctl_import.h"
#include "tools/ctl_module.h"
#include "tools/ctl_restart.h"
#include "tools/ctl_restore.h"

#define STOP_BOUND 30 /* seconds in which a server that stops has to be gone */

/* A command whose words have names. */
static const struct known {
	const char *name, *keys[2], *usage, *help;
	enum show_kind show;
} knowns[] = {
	{ "help", { NULL }, "help", "Lists the commands of the server.", SHOW_HELP },
	{ "status", { NULL }, "status", "How the server is.", SHOW_STATUS },
	{ "metrics", { NULL }, "metrics", "What modules count.", SHOW_METRICS },
	{ "sessions", { "user" }, "sessions [USER]", "Who is connected.", SHOW_SESSIONS },
	{ "notify",
	  { "user" },
	  "notify --category N [--data TEXT] USER|--all",
	  "Sends a notice to available sessions.",
	  SHOW_LINES },
	{ "kick",
	  { "user" },
	  "kick USER [--code N] [--reason TEXT]",
	  "Ends the sessions of a user, or the one of a full JID.",
	  SHOW_LINES },
	{ "reload", { NULL }, "reload [--dry-run]", "Makes the configuration files take effect.", SHOW_LINES },
	{ "restart",
	  { NULL },
	  "restart",
	  "Executes the program anew; nobody who connects meanwhile is refused.",
	  SHOW_LINES },
	{ "backup", { "file" }, "backup FILE", "Writes all databases and keys into one file while the server runs.", SHOW_LINES },
	{ "restore",
	  { "file" },
	  "restore FILE [--force]",
	  "Puts a backup in the place of the state directory; no server runs.",
	  SHOW_LINES },
	{ "stop", { NULL }, "stop", "Stops the server.", SHOW_LINES },
	{ "user",
	  { "do", "name" },
	  "user add|passwd|enable|disable|delete NAME, user list",
	  "Changes or lists accounts.",
	  SHOW_LINES },
	{ "user",
	  { NULL },
	  "user import FILE [--dry-run] [--update] [--domain NAME]",
	  "Adds the accounts of a CSV file or a table dump.",
	  SHOW_LINES },
	{ "module",
	  { NULL },
	  "module list|info NAME|enable NAME [KEY=VALUE...]|disable NAME",
	  "Tells of modules, or changes which are enabled.",
	  SHOW_LINES },
	{ "doctor", { "name" }, "doctor NAME", "Why a user cannot log in.", SHOW_DOCTOR },
	{ "archive", { "do", "user" }, NULL, NULL, SHOW_LINES },
};

static const struct known unknown = { NULL, { "do", "name" }, NULL, NULL, SHOW_LINES };

static const char usage[] =
	"Usage: startalkctl [-c FILE | --state-dir DIR | --socket PATH] [--json] COMMAND [WORD...] [--KEY VALUE]...\n"
	"\n"
	"  -c, --config FILE    the server's configuration (default: " STK_SYSCONF_DIR "/startalkd/startalkd.conf)\n"
	"      --state-dir DIR  its state directory, with admin.sock in it\n"
	"      --socket PATH    its admin socket\n"
	"      --json           print the answer as it comes, one JSON object a line\n"
	"      --version, --help\n"
	"\n"
	"Commands (startalkctl help asks the server for all it has):\n";

static const char usage_end[] =
	"\n"
	"New passwords are asked for on the terminal, or are the first line of standard input.\n"
	"Exit status: 0 success, 1 the server says no, 2 wrong usage, 3 the server cannot be reached.\n";

void ctl_error(const char *fmt, ...)
{
	char *text = NULL, *escaped = NULL;
	va_list args;
	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) >= 0) {
		escaped = show_escape(text);
		free(text);
	}
	va_end(args);
	fprintf(stderr, "startalkctl: %s\n", escaped ? escaped : "out of memory");
	free(escaped);
}

static int misuse(const char *what, const char *object)
{
	ctl_error("%s%s%s; try --help", object ? object : "", object ? ": " : "", what);
	return -EINVAL;
}

static void print_usage(FILE *out)
{
	fputs(usage, out);
	for (size_t i = 0; i < sizeof(knowns) / sizeof(*knowns); i++) {
		if (knowns[i].usage) {
			fprintf(out, "  %-54s  %s\n", knowns[i].usage, knowns[i].help);
		}
	}
	fputs(usage_end, out);
}

/* ---- the request ---- */

struct command_line {
	struct ctl_place place;
	bool json, done; /* DONE: --help or --version */
	const struct known *known;
	json_t *request, *words;
};

static const struct known *find_known(const char *name)
{
	for (size_t i = 0; i < sizeof(knowns) / sizeof(*knowns); i++) {
		if (strcmp(knowns[i].name, name) == 0) {
			return &knowns[i];
		}
	}
	return &unknown;
}

/* KEY of LEN bytes gets VALUE (NULL: true). 0 or -errno, told. */
static int set_member(json_t *request, const char *key, size_t len, const char *value)
{
	char name[64];
	bool good = len && len < sizeof(name) && islower((unsigned char)key[0]);
	for (size_t i = 0; i < len && good; i++) {
		good = islower((unsigned char)key[i]) || isdigit((unsigned char)key[i]) || key[i] == '-' ||
		       key[i] == '_';
	}
	if (!good) {
		return misuse("not an option", key);
	}
	memcpy(name, key, len);
	name[len] = '\0';
	if (strcmp(name, "password") == 0) {
		return misuse("arguments can be read by others: a password is asked for or read from standard input", NULL);
	}
	if (strcmp(name, "command") == 0 || strcmp(name, "args") == 0 || json_object_get(request, name)) {
		bool own = strcmp(name, "command") == 0 || strcmp(name, "args") == 0;
		return misuse(own ? "not an option" : "given twice", name);
	}
	if (json_object_set_new(request, name, value ? json_string(value) : json_true()) < 0) {
		return misuse("not UTF-8", name);
	}
	return 0;
}

/* Never followed by a value: with commands of other modules that is known of --all only. */
static bool is_flag(const struct known *known, const char *key)
{
	static const char *const flags[] = { "dry-run", "force", "update" };
	bool flag = strcmp(key, "all") == 0;
	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags) && known->name; i++) {
		flag = flag || strcmp(flags[i], key) == 0;
	}
	return flag;
}

/* --KEY=VALUE, --KEY VALUE, or --KEY alone, which is true: --all, and one that nothing or another option follows. */
static int take_option(struct command_line *line, char **argv, int *i)
{
	const char *key = argv[*i] + 2, *equals = strchr(key, '='), *next = argv[*i + 1];
	if (strcmp(key, "json") == 0) {
		line->json = true;
		return 0;
	}
	if (strcmp(key, "help") == 0) {
		line->done = true;
		if (line->known->usage) {
			printf("startalkctl %s\n%s\n", line->known->usage, line->known->help);
		} else {
			print_usage(stdout);
		}
		return 0;
	}
	if (equals) {
		return set_member(line->request, key, (size_t)(equals - key), equals + 1);
	}
	bool flag = is_flag(line->known, key) || !next || strncmp(next, "--", 2) == 0;
	*i += !flag;
	return set_member(line->request, key, strlen(key), flag ? NULL : next);
}

/* Its words are not sent. */
static bool takes_words(const struct known *known)
{
	return known->name && strcmp(known->name, "module") == 0;
}

static int take_word(struct command_line *line, const char *word)
{
	const struct known *known = line->known;
	size_t i = json_array_size(line->words);
	const char *key = i < 2 ? known->keys[i] : NULL;
	if (!key && known->name && !takes_words(known)) {
		return misuse("one word too many", word);
	}
	if (json_array_append_new(line->words, json_string(word)) < 0) {
		return misuse("not UTF-8", word);
	}
	return key ? set_member(line->request, key, strlen(key), word) : 0;
}

/* ARGV begins with the command. */
static int take_command(struct command_line *line, char **argv)
{
	line->known = find_known(argv[0]);
	line->request = json_object();
	line->words = json_array();
	if (!line->request || !line->words) {
		return misuse("out of memory", NULL);
	}
	if (json_object_set_new(line->request, "command", json_string(argv[0])) < 0) {
		return misuse("not UTF-8", argv[0]);
	}
	bool options = true;
	int rc = 0;
	for (int i = 1; argv[i] && rc == 0 && !line->done; i++) {
		if (options && strcmp(argv[i], "--") == 0) {
			options = false;
		} else if (options && strncmp(argv[i], "--", 2) == 0) {
			rc = take_option(line, argv, &i);
		} else if (options && argv[i][0] == '-' && argv[i][1]) {
			rc = misuse("not an option", argv[i]);
		} else {
			rc = take_word(line, argv[i]);
		}
	}
	if (rc == 0 && !line->known->name && json_array_size(line->words)) {
		rc = json_object_set(line->request, "args", line->words) < 0 ? misuse("out of memory", NULL) : 0;
	}
	return rc;
}

static int parse_arguments(int argc, char **argv, struct command_line *line)
{
	enum { SOCKET = 256, STATE_DIR, JSON };
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "socket", required_argument, NULL, SOCKET },
		{ "state-dir", required_argument, NULL, STATE_DIR },
		{ "json", no_argument, NULL, JSON },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int opt;
	while ((opt = getopt_long(argc, argv, "+c:hV", options, NULL)) != -1) {
		switch (opt) {
		case 'c': line->place.config = optarg; break;
		case SOCKET: line->place.socket = optarg; break;
		case STATE_DIR: line->place.state_dir = optarg; break;
		case JSON: line->json = true; break;
		case 'V':
			puts("startalkctl " STK_VERSION);
			line->done = true;
			return 0;
		case 'h':
			print_usage(stdout);
			line->done = true;
			return 0;
		default: fputs("Try --help.\n", stderr); return -EINVAL;
		}
	}
	const struct ctl_place *place = &line->place;
	if (!!place->config + !!place->socket + !!place->state_dir > 1) {
		return misuse("-c, --state-dir and --socket: one is enough", NULL);
	}
	return optind < argc ? take_command(line, argv + optind) : misuse("which command?", NULL);
}

/* What a new account or password lacks. */
static int add_password(json_t *request)
{
	const char *what = json_string_value(json_object_get(request, "do"));
	const char *name = json_string_value(json_object_get(request, "name"));
	char *secret = NULL;
	if (!what || (strcmp(what, "add") != 0 && strcmp(what, "passwd") != 0)) {
		return 0;
	}
	if (!name) {
		return misuse("which user?", NULL);
	}
	int rc = ctl_new_password(name, &secret);
	if (rc == 0 && json_object_set_new(request, "password", json_string(secret)) < 0) {
		rc = misuse("not UTF-8", "password");
	}
	ctl_secret_free(&secret);
	return rc;
}

/* The server does not know the folder in which a name is meant. */
static int complete_path(json_t *request)
{
	const char *file = json_string_value(json_object_get(request, "file"));
	char *folder = NULL, *path = NULL;
	if (!file || !*file) {
		return misuse("which file?", NULL);
	}
	if (file[0] == '/') {
		return 0;
	}
	folder = getcwd(NULL, 0);
	if (!folder || asprintf(&path, "%s/%s", folder, file) < 0) {
		free(folder);
		return misuse("where this is cannot be told; give a path that begins with /", NULL);
	}
	int rc = json_object_set_new(request, "file", json_string(path)) < 0 ? misuse("not UTF-8", "the path of this folder") : 0;
	free(folder);
	free(path);
	return rc;
}

/* ---- the exchange ---- */

static void wipe(const json_t *string)
{
	if (string) {
		explicit_bzero((char *)(uintptr_t)json_string_value(string), json_string_length(string));
	}
}

static int send_request(struct ctl_socket *sock, const json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	if (!text) {
		ctl_error("out of memory");
		return -ENOMEM;
	}
	size_t len = strlen(text);
	text[len] = '\n'; /* where the NUL was */
	ctl_send(sock, text, len + 1);
	explicit_bzero(text, len);
	free(text);
	return 0;
}

static int read_answer(struct ctl_socket *sock, enum show_kind kind)
{
	const char *text;
	struct show show;
	int status = -1, rc = 1;
	show_begin(&show, kind);
	while (status < 0 && (rc = ctl_receive(sock, &text)) > 0) {
		json_t *object = json_loads(text, 0, NULL);
		const json_t *ok = json_object_get(object, "ok");
		const char *error = json_string_value(json_object_get(object, "error"));
		if (!json_is_object(object) || (!ok && show_line(&show, text, object) < 0)) {
			ctl_error("%s", object ? "out of memory" : "what came is no answer of a startalkd");
			status = EXIT_LOST;
		} else if (ok) {
			status = json_is_true(ok) ? EXIT_SUCCESS : EXIT_REFUSED;
		}
		if (status == EXIT_REFUSED) {
			ctl_error("%s", error ? error : "the server says no");
		}
		json_decref(object);
	}
	if (status != EXIT_SUCCESS && kind != SHOW_JSON) {
		show.kind = SHOW_LINES; /* an empty table would be a lie */
	}
	show_end(&show);
	if (status < 0) {
		ctl_error("the server is gone before it has answered%s%s", rc < 0 ? ": " : "",
			  rc < 0 ? strerror(-rc) : "");
	}
	return status < 0 ? EXIT_LOST : status;
}

/* A server that has stopped closes its socket last. */
static int await_stop(struct ctl_socket *sock)
{
	const char *text;
	const struct timeval bound = { .tv_sec = STOP_BOUND };
	setsockopt(sock->fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound));
	if (ctl_receive(sock, &text) == -EAGAIN) {
		ctl_error("the server has not stopped within %d s", STOP_BOUND);
		return EXIT_REFUSED;
	}
	return EXIT_SUCCESS;
}

static enum show_kind choose_show(const struct command_line *line)
{
	const char *what = json_string_value(json_object_get(line->request, "do"));
	const char *name = line->known->name ? line->known->name : "";
	bool list = what && strcmp(what, "list") == 0 && strcmp(name, "user") == 0;
	bool figures = what && strcmp(what, "export") != 0 && strcmp(name, "archive") == 0;
	return line->json ? SHOW_JSON : list ? SHOW_USERS : figures ? SHOW_MEMBERS : line->known->show;
}

static int run(const struct command_line *line)
{
	struct ctl_socket sock;
	const char *name = line->known->name;
	bool help = name && strcmp(name, "help") == 0;
	if (name && strcmp(name, "user") == 0 && add_password(line->request) < 0) {
		return EXIT_USAGE;
	}
	const char *what = json_string_value(json_object_get(line->request, "do"));
	if (name && strcmp(name, "user") == 0 && what && strcmp(what, "import") == 0) {
		return ctl_import(&line->place, line->request, line->json);
	}
	if (takes_words(line->known) && json_object_size(line->request) > 1) {
		misuse("module takes no options; those of a module are written KEY=VALUE", NULL);
		return EXIT_USAGE;
	}
	if (takes_words(line->known)) {
		return ctl_module(&line->place, line->words, line->json);
	}
	bool restore = name && strcmp(name, "restore") == 0;
	if ((restore || (name && strcmp(name, "backup") == 0)) && complete_path(line->request) < 0) {
		return EXIT_USAGE;
	}
	if (restore) {
		return ctl_restore(&line->place, line->request, line->json);
	}
	if (name && strcmp(name, "restart") == 0) {
		return ctl_restart(&line->place, line->json);
	}
	int status = ctl_connect(&sock, &line->place, help) < 0 ? EXIT_LOST : EXIT_SUCCESS;
	if (status == EXIT_LOST && help) {
		print_usage(stdout); /* without a server these are all that is known */
		status = EXIT_SUCCESS;
	} else if (status == EXIT_SUCCESS) {
		status = send_request(&sock, line->request) < 0 ? EXIT_REFUSED : read_answer(&sock, choose_show(line));
	}
	wipe(json_object_get(line->request, "password"));
	if (status == EXIT_SUCCESS && name && strcmp(name, "stop") == 0) {
		status = await_stop(&sock);
	}
	ctl_close(&sock);
	return status;
}

int main(int argc, char **argv)
{
	struct command_line line = { 0 };
	const struct rlimit no_core = { 0, 0 };
	setrlimit(RLIMIT_CORE, &no_core); /* a dump would hold the password */
	int rc = parse_arguments(argc, argv, &line);
	int status = rc < 0 ? EXIT_USAGE : line.done ? EXIT_SUCCESS : run(&line);
	json_decref(line.request);
	json_decref(line.words);
	if (fflush(stdout) != 0 && status == EXIT_SUCCESS) {
		ctl_error("cannot write: %s", strerror(errno));
		status = EXIT_REFUSED;
	}
	return status;
}
