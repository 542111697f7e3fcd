/* SPDX-License-Identifier: MIT */
/* startalk-client: a terminal client, for people at a terminal and for scripts. Owns the command line, the exit code
 * and the order in which a run is put together; each part of the run has a file of its own. */

#include "tools/client.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <jansson.h>

#include <startalkd/jid.h>

#include "proto/frame.h"

#define DEFAULT_PORT "5202"
#define DEFAULT_TIMEOUT (10 * INT64_C(1000000))
#define FIRST_PRIORITY 5

enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE };

enum {
	OPTION_PASSWORD_FILE = 256,
	OPTION_HOST,
	OPTION_PORT,
	OPTION_NO_TLS,
	OPTION_TLS_DIRECT,
	OPTION_TLS_CA,
	OPTION_TLS_INSECURE,
	OPTION_TLS_VERIFY,
	OPTION_RESOURCE,
	OPTION_RSA_KEY,
	OPTION_AS,
	OPTION_RAW,
	OPTION_NO_MARKS,
	OPTION_TIMEOUT,
	OPTION_HELP,
	OPTION_VERSION,
};

static const char usage[] =
	"usage: startalk-client USER@DOMAIN [OPTION]...\n"
	"\n"
	"Logs in and shows what arrives. Lines of standard input are commands (they begin with /; /help lists\n"
	"them) or messages to the JID last chosen with /to.\n"
	"\n"
	"  --password-file FILE  the password is FILE's first line; otherwise it is asked for on the terminal\n"
	"  --rsa-key FILE        encrypt the password with the server's public RSA key, PEM\n"
	"  --resource NAME       the resource (one is made up)\n"
	"  --as [NAME=]JID       log in as JID, too; /as NAME makes it the one that commands act for. The three\n"
	"                        options above belong to the JID they stand behind\n"
	"  --host HOST           the server (the domain of the JID)\n"
	"  --port PORT           its port (" DEFAULT_PORT ")\n"
	"  --tls-ca FILE         trust the certificates in FILE, PEM, instead of the system's authorities\n"
	"  --tls-verify          on this machine too; there (127.0.0.0/8, ::1, localhost) a certificate that\n"
	"                        cannot be verified is otherwise accepted, with a warning\n"
	"  --tls-insecure        accept any certificate\n"
	"  --tls-direct          TLS from the first byte instead of StartTLS\n"
	"  --no-tls              everything in clear\n"
	"  --raw                 show every stanza, in (<<) and out (>>), as XML\n"
	"  --no-marks            do not tell senders that their messages were read\n"
	"  --timeout TIME        how long any answer may take, such as 500ms, 10s, 1min (10s)\n"
	"  -c COMMANDS           do COMMANDS, parted by ; (\\; is a semicolon), instead of reading standard input\n"
	"  --help, --version\n"
	"\n"
	"Exit status: 0 success, 1 failure, 2 wrong usage.\n";

static const struct option long_options[] = {
	{ "password-file", required_argument, NULL, OPTION_PASSWORD_FILE },
	{ "host", required_argument, NULL, OPTION_HOST },
	{ "port", required_argument, NULL, OPTION_PORT },
	{ "no-tls", no_argument, NULL, OPTION_NO_TLS },
	{ "tls-direct", no_argument, NULL, OPTION_TLS_DIRECT },
	{ "tls-ca", required_argument, NULL, OPTION_TLS_CA },
	{ "tls-insecure", no_argument, NULL, OPTION_TLS_INSECURE },
	{ "tls-verify", no_argument, NULL, OPTION_TLS_VERIFY },
	{ "resource", required_argument, NULL, OPTION_RESOURCE },
	{ "rsa-key", required_argument, NULL, OPTION_RSA_KEY },
	{ "as", required_argument, NULL, OPTION_AS },
	{ "raw", no_argument, NULL, OPTION_RAW },
	{ "no-marks", no_argument, NULL, OPTION_NO_MARKS },
	{ "timeout", required_argument, NULL, OPTION_TIMEOUT },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ NULL, 0, NULL, 0 },
};

/* What the command line allocates. */
struct arguments {
	struct client_options options;
	size_t account; /* whose the options are that come next */
	struct buf commands;
	bool done; /* --help or --version */
};

static int misuse(const char *what, const char *object)
{
	fprintf(stderr, "startalk-client: %s%s%s\nTry --help.\n", object ? object : "", object ? ": " : "", what);
	return -EINVAL;
}

/* TEXT's commands, one a line. */
static int add_commands(struct buf *commands, const char *text)
{
	int rc = 0;
	for (const char *at = text; *at && rc == 0; at++) {
		bool escaped = at[0] == '\\' && at[1] == ';';
		at += escaped ? 1 : 0;
		rc = buf_append(commands, *at == ';' && !escaped ? "\n" : at, 1);
		while (rc == 0 && *at == ';' && !escaped && at[1] == ' ') {
			at++;
		}
	}
	return rc == 0 ? buf_append(commands, "\n", 1) : rc;
}

static int set_port(struct client_options *options, const char *text)
{
	char *end;
	long port = strtol(text, &end, 10);
	if (end == text || *end || port < 1 || port > 65535) {
		return misuse("not a port", text);
	}
	options->port = text;
	return 0;
}

/* ---- accounts ---- */

/* Whether TEXT, LEN bytes, can be the name in front of an = sign. */
static bool is_name(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)text[i]) && !strchr("._-", text[i])) {
			return false;
		}
	}
	return len > 0;
}

static int set_account(struct client_account *account, const char *name, size_t name_len, const char *text)
{
	struct stk_jid jid;
	if (stk_jid_parse(&jid, text) < 0 || !jid.node_len || jid.resource_len) {
		return misuse("not USER@DOMAIN", text);
	}
	account->user = strndup(jid.node, jid.node_len);
	account->domain = strndup(jid.domain, jid.domain_len);
	account->name = name ? strndup(name, name_len) : strndup(jid.node, jid.node_len);
	return account->user && account->domain && account->name ? 0 : misuse("out of memory", NULL);
}

static int set_main(struct arguments *arguments, const char *text)
{
	arguments->account = 0;
	if (arguments->options.accounts[0].user) {
		return misuse("one USER@DOMAIN is enough; --as logs in others", text);
	}
	return set_account(&arguments->options.accounts[0], NULL, 0, text);
}

static int add_account(struct arguments *arguments, const char *text)
{
	struct client_options *options = &arguments->options;
	const char *end = strchr(text, '=');
	bool named = end && is_name(text, (size_t)(end - text));
	if (options->accounts_n == CLIENT_ACCOUNTS_MAX) {
		return misuse("too many accounts", text);
	}
	arguments->account = options->accounts_n++;
	return set_account(&options->accounts[arguments->account], named ? text : NULL,
			   named ? (size_t)(end - text) : 0, named ? end + 1 : text);
}

static int check_accounts(const struct client_options *options)
{
	if (!options->accounts[0].user) {
		return misuse("who? give USER@DOMAIN", NULL);
	}
	for (size_t i = 0; i < options->accounts_n; i++) {
		for (size_t j = 0; j < i; j++) {
			if (strcmp(options->accounts[i].name, options->accounts[j].name) == 0) {
				return misuse("two accounts have this name; --as NAME=JID gives one another",
					      options->accounts[i].name);
			}
		}
	}
	return 0;
}

/* ---- options ---- */

static int set_option(struct arguments *arguments, int option)
{
	struct client_options *options = &arguments->options;
	struct client_account *account = &options->accounts[arguments->account];
	switch (option) {
	case 1: return set_main(arguments, optarg); /* no option at all */
	case OPTION_AS: return add_account(arguments, optarg);
	case OPTION_PASSWORD_FILE: account->password_file = optarg; return 0;
	case OPTION_RSA_KEY: account->rsa_key = optarg; return 0;
	case OPTION_RESOURCE: account->resource = optarg; return 0;
	case OPTION_HOST: options->host = optarg; return 0;
	case OPTION_PORT: return set_port(options, optarg);
	case OPTION_NO_TLS: options->no_tls = true; return 0;
	case OPTION_TLS_DIRECT: options->tls_direct = true; return 0;
	case OPTION_TLS_CA: options->tls_ca = optarg; return 0;
	case OPTION_TLS_INSECURE: options->tls_insecure = true; return 0;
	case OPTION_TLS_VERIFY: options->tls_verify = true; return 0;
	case OPTION_RAW: options->raw = true; return 0;
	case OPTION_NO_MARKS: options->no_marks = true; return 0;
	case OPTION_TIMEOUT:
		if (client_duration(optarg, &options->timeout) < 0 || !options->timeout) {
			return misuse("not a time such as 500ms or 10s", optarg);
		}
		return 0;
	case 'c': return add_commands(&arguments->commands, optarg);
	case OPTION_HELP:
		fputs(usage, stdout);
		arguments->done = true;
		return 0;
	case OPTION_VERSION:
		puts("startalk-client " STK_VERSION);
		arguments->done = true;
		return 0;
	default: fputs("Try --help.\n", stderr); return -EINVAL;
	}
}

static int check_options(const struct client_options *options)
{
	if (options->no_tls &&
	    (options->tls_direct || options->tls_ca || options->tls_insecure || options->tls_verify)) {
		return misuse("--no-tls goes with no other option of TLS", NULL);
	}
	if (options->tls_insecure && (options->tls_ca || options->tls_verify)) {
		return misuse("--tls-insecure goes neither with --tls-ca nor with --tls-verify", NULL);
	}
	return check_accounts(options);
}

static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
	int option, rc = 0;
	arguments->options.accounts_n = 1;
	arguments->options.port = DEFAULT_PORT;
	arguments->options.timeout = DEFAULT_TIMEOUT;
	/* With - in front all comes in the order in which it was given. */
	while (rc == 0 && !arguments->done && (option = getopt_long(argc, argv, "-c:", long_options, NULL)) != -1) {
		rc = set_option(arguments, option);
	}
	for (; rc == 0 && !arguments->done && optind < argc; optind++) {
		rc = set_main(arguments, argv[optind]); /* behind -- */
	}
	if (rc < 0 || arguments->done) {
		return rc;
	}
	if (arguments->commands.len) {
		rc = buf_append(&arguments->commands, "", 1);
		arguments->options.commands = (const char *)buf_data(&arguments->commands);
	}
	return rc < 0 ? rc : check_options(&arguments->options);
}

static void fini_arguments(struct arguments *arguments)
{
	for (size_t i = 0; i < arguments->options.accounts_n; i++) {
		free(arguments->options.accounts[i].name);
		free(arguments->options.accounts[i].user);
		free(arguments->options.accounts[i].domain);
	}
	buf_fini(&arguments->commands);
}

/* ---- the run ---- */

/* What logging in takes. */
struct entry {
	struct addrinfo *list;
	char *auth_key;
};

static const char *host_of(const struct client *client)
{
	return client->options->host ? client->options->host : client->account->domain;
}

static int resolve(struct client *client, struct entry *entry)
{
	int rc = net_resolve(&client->net, host_of(client), client->options->port, &entry->list);
	if (rc < 0) {
		show_error(client, "cannot connect: %s", client->net.error);
	}
	return rc;
}

static int prepare(struct client *client, struct entry *entry)
{
	char *password = NULL;
	int rc = client_password(client, client->account->password_file, &password);
	rc = rc < 0 ? rc : client_auth_key(client, password, &entry->auth_key);
	client_secret_free(&password);
	return rc;
}

static int enter(struct client *client, const struct entry *entry)
{
	const struct client_options *options = client->options;
	int rc = net_connect(&client->net, host_of(client), entry->list, clock_us() + options->timeout);
	if (rc < 0) {
		show_error(client, "cannot connect to %s port %s: %s", host_of(client), options->port,
			   client->net.error);
		return rc;
	}
	return client_login(client, entry->auth_key);
}

/* What can fail, or wait for somebody, goes before the first connection. */
static int enter_all(struct client_run *run)
{
	struct entry entries[CLIENT_ACCOUNTS_MAX] = { 0 };
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < run->clients_n; i++) {
		rc = resolve(&run->clients[i], &entries[i]);
	}
	rc = rc < 0 ? rc : stop_init(); /* looking up could not be interrupted behind it */
	for (size_t i = 0; rc == 0 && i < run->clients_n; i++) {
		rc = prepare(&run->clients[i], &entries[i]);
	}
	for (size_t i = 0; rc == 0 && i < run->clients_n; i++) {
		rc = enter(&run->clients[i], &entries[i]);
		client_secret_free(&entries[i].auth_key);
	}
	for (size_t i = 0; i < run->clients_n; i++) {
		client_secret_free(&entries[i].auth_key);
		if (entries[i].list) {
			freeaddrinfo(entries[i].list);
		}
	}
	return rc;
}

static int run_session(struct client_run *run)
{
	int rc = enter_all(run);
	if (rc < 0) {
		return rc;
	}
	rc = client_run(run);
	if (rc == -EINTR && run->interactive) {
		return 0; /* Ctrl-C is a way to leave */
	}
	if (rc == -EINTR) {
		show_error(run->current, "interrupted");
	}
	return rc;
}

static int init_run(struct client_run *run, const struct client_options *options)
{
	*run = (struct client_run){ .options = options, .raw = options->raw };
	run->interactive = !options->commands && isatty(STDIN_FILENO);
	run->input.eof = options->commands != NULL;
	run->clients = calloc(options->accounts_n, sizeof(*run->clients));
	if (!run->clients) {
		return -ENOMEM;
	}
	run->clients_n = options->accounts_n;
	run->current = run->clients;
	for (size_t i = 0; i < run->clients_n; i++) {
		struct client *client = &run->clients[i];
		client->run = run;
		client->options = options;
		client->account = &options->accounts[i];
		client->priority = FIRST_PRIORITY;
		net_init(&client->net);
	}
	for (size_t i = 0; i < run->clients_n; i++) {
		const struct client_account *account = &options->accounts[i];
		if (asprintf(&run->clients[i].bare, "%s@%s", account->user, account->domain) < 0) {
			run->clients[i].bare = NULL;
			return -ENOMEM;
		}
	}
	return options->commands ? buf_append(&run->input.buf, options->commands, strlen(options->commands)) : 0;
}

static void fini_client(struct client *client)
{
	net_close(&client->net);
	buf_fini(&client->shown);
	stk_stanza_unref(client->answer);
	json_decref(client->unmarked);
	free(client->bare);
	free(client->full);
	free(client->chosen);
	free(client->last_id);
	free(client->last_to);
}

static void fini_run(struct client_run *run)
{
	if (run->prompted) {
		putchar('\n');
	}
	for (size_t i = 0; i < run->clients_n; i++) {
		fini_client(&run->clients[i]);
	}
	free(run->clients);
	buf_fini(&run->input.buf);
	frame_thread_fini();
}

int main(int argc, char **argv)
{
	static struct client_run run;
	static struct arguments arguments;
	const struct rlimit no_core = { 0, 0 };
	int rc = parse_arguments(argc, argv, &arguments), status = rc < 0 ? EXIT_USAGE : EXIT_OK;
	if (rc == 0 && !arguments.done) {
		setrlimit(RLIMIT_CORE, &no_core); /* a dump would hold the password */
		rc = init_run(&run, &arguments.options);
		rc = rc < 0 ? rc : run_session(&run);
		status = rc < 0 ? EXIT_FAILED : EXIT_OK;
		fini_run(&run);
	}
	fini_arguments(&arguments);
	if (fflush(stdout) != 0 && status == EXIT_OK) {
		status = EXIT_FAILED;
	}
	return status;
}
