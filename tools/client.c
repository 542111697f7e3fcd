/* SPDX-License-Identifier: MIT */
/* startalk-client: a terminal client, for people at a terminal and for scripts. Owns the command line, the exit code
 * and the order in which a run is put together; each part of the run has a file of its own. */

#include "tools/client.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

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
	OPTION_RAW,
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
	"  --host HOST           the server (the domain of the JID)\n"
	"  --port PORT           its port (" DEFAULT_PORT ")\n"
	"  --rsa-key FILE        encrypt the password with the server's public RSA key, PEM\n"
	"  --resource NAME       the resource (one is made up)\n"
	"  --tls-ca FILE         trust the certificates in FILE, PEM, instead of the system's authorities\n"
	"  --tls-verify          on this machine too; there (127.0.0.0/8, ::1, localhost) a certificate that\n"
	"                        cannot be verified is otherwise accepted, with a warning\n"
	"  --tls-insecure        accept any certificate\n"
	"  --tls-direct          TLS from the first byte instead of StartTLS\n"
	"  --no-tls              everything in clear\n"
	"  --raw                 show every stanza, in (<<) and out (>>), as XML\n"
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
	{ "raw", no_argument, NULL, OPTION_RAW },
	{ "timeout", required_argument, NULL, OPTION_TIMEOUT },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ NULL, 0, NULL, 0 },
};

/* What the command line allocates. */
struct arguments {
	struct client_options options;
	char *user, *domain;
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

static int set_option(struct arguments *arguments, int option)
{
	struct client_options *options = &arguments->options;
	switch (option) {
	case OPTION_PASSWORD_FILE: options->password_file = optarg; return 0;
	case OPTION_HOST: options->host = optarg; return 0;
	case OPTION_PORT: return set_port(options, optarg);
	case OPTION_NO_TLS: options->no_tls = true; return 0;
	case OPTION_TLS_DIRECT: options->tls_direct = true; return 0;
	case OPTION_TLS_CA: options->tls_ca = optarg; return 0;
	case OPTION_TLS_INSECURE: options->tls_insecure = true; return 0;
	case OPTION_TLS_VERIFY: options->tls_verify = true; return 0;
	case OPTION_RESOURCE: options->resource = optarg; return 0;
	case OPTION_RSA_KEY: options->rsa_key = optarg; return 0;
	case OPTION_RAW: options->raw = true; return 0;
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

static int set_jid(struct arguments *arguments, const char *text)
{
	struct stk_jid jid;
	if (stk_jid_parse(&jid, text) < 0 || !jid.node_len || jid.resource_len) {
		return misuse("not USER@DOMAIN", text);
	}
	arguments->user = strndup(jid.node, jid.node_len);
	arguments->domain = strndup(jid.domain, jid.domain_len);
	if (!arguments->user || !arguments->domain) {
		return misuse("out of memory", NULL);
	}
	arguments->options.user = arguments->user;
	arguments->options.domain = arguments->domain;
	return 0;
}

static int check_options(struct client_options *options)
{
	if (options->no_tls &&
	    (options->tls_direct || options->tls_ca || options->tls_insecure || options->tls_verify)) {
		return misuse("--no-tls goes with no other option of TLS", NULL);
	}
	if (options->tls_insecure && (options->tls_ca || options->tls_verify)) {
		return misuse("--tls-insecure goes neither with --tls-ca nor with --tls-verify", NULL);
	}
	options->host = options->host ? options->host : options->domain;
	return 0;
}

static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
	int option, rc = 0;
	arguments->options.port = DEFAULT_PORT;
	arguments->options.timeout = DEFAULT_TIMEOUT;
	while (rc == 0 && !arguments->done && (option = getopt_long(argc, argv, "c:", long_options, NULL)) != -1) {
		rc = set_option(arguments, option);
	}
	if (rc < 0 || arguments->done) {
		return rc;
	}
	if (argc - optind != 1) {
		return misuse(argc == optind ? "who? give USER@DOMAIN" : "one USER@DOMAIN is enough", NULL);
	}
	rc = set_jid(arguments, argv[optind]);
	if (rc == 0 && arguments->commands.len) {
		rc = buf_append(&arguments->commands, "", 1);
		arguments->options.commands = (const char *)buf_data(&arguments->commands);
	}
	return rc < 0 ? rc : check_options(&arguments->options);
}

/* ---- the run ---- */

static int connect_server(struct client *client, const struct addrinfo *list)
{
	const struct client_options *options = client->options;
	int rc = net_connect(&client->net, options->host, list, clock_us() + options->timeout);
	if (rc < 0) {
		show_error(client, "cannot connect to %s port %s: %s", options->host, options->port, client->net.error);
	}
	return rc;
}

static int run_session(struct client *client)
{
	const struct client_options *options = client->options;
	struct addrinfo *list = NULL;
	char *password = NULL, *auth_key = NULL;
	int rc = net_resolve(&client->net, options->host, options->port, &list);
	if (rc < 0) {
		show_error(client, "cannot connect: %s", client->net.error);
		return rc;
	}
	rc = stop_init();
	rc = rc < 0 ? rc : client_password(client, options->password_file, &password);
	rc = rc < 0 ? rc : client_auth_key(client, password, &auth_key);
	client_secret_free(&password);
	rc = rc < 0 ? rc : connect_server(client, list);
	freeaddrinfo(list);
	rc = rc < 0 ? rc : client_login(client, auth_key);
	client_secret_free(&auth_key);
	if (rc < 0) {
		return rc;
	}
	rc = client_run(client);
	if (rc == -EINTR && client->interactive) {
		return 0; /* Ctrl-C is a way to leave */
	}
	if (rc == -EINTR) {
		show_error(client, "interrupted");
	}
	return rc;
}

static int init_client(struct client *client, const struct client_options *options)
{
	*client = (struct client){ .options = options, .priority = FIRST_PRIORITY, .raw = options->raw };
	net_init(&client->net);
	client->interactive = !options->commands && isatty(STDIN_FILENO);
	client->input.eof = options->commands != NULL;
	if (asprintf(&client->bare, "%s@%s", options->user, options->domain) < 0) {
		client->bare = NULL;
		return -ENOMEM;
	}
	return options->commands ? buf_append(&client->input.buf, options->commands, strlen(options->commands)) : 0;
}

static void fini_client(struct client *client)
{
	if (client->prompted) {
		putchar('\n');
	}
	net_close(&client->net);
	buf_fini(&client->input.buf);
	buf_fini(&client->shown);
	stk_stanza_unref(client->answer);
	free(client->bare);
	free(client->full);
	free(client->chosen);
	frame_thread_fini();
}

int main(int argc, char **argv)
{
	static struct client client;
	struct arguments arguments = { 0 };
	const struct rlimit no_core = { 0, 0 };
	int rc = parse_arguments(argc, argv, &arguments), status = rc < 0 ? EXIT_USAGE : EXIT_OK;
	if (rc == 0 && !arguments.done) {
		setrlimit(RLIMIT_CORE, &no_core); /* a dump would hold the password */
		rc = init_client(&client, &arguments.options);
		rc = rc < 0 ? rc : run_session(&client);
		status = rc < 0 ? EXIT_FAILED : EXIT_OK;
		fini_client(&client);
	}
	free(arguments.user);
	free(arguments.domain);
	buf_fini(&arguments.commands);
	if (fflush(stdout) != 0 && status == EXIT_OK) {
		status = EXIT_FAILED;
	}
	return status;
}
