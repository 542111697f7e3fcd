/* SPDX-License-Identifier: MIT */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/settings.h"
#include "proto/check.h"

static char faults[8192];

static void collect(const char *fault, void *arg)
{
	(void)arg;
	size_t len = strlen(faults);
	snprintf(faults + len, sizeof(faults) - len, "%s\n", fault);
}

static struct conf *read_text(const char *text, int wanted)
{
	struct conf *conf = conf_new();
	assert_non_null(conf);
	faults[0] = '\0';
	int rc = conf_read_text(conf, "t.conf", text, strlen(text), collect, NULL);
	if (rc != wanted) {
		fail_msg("%d instead of %d: %s", rc, wanted, faults);
	}
	return conf;
}

static void assert_fault(const char *wanted)
{
	if (!strstr(faults, wanted)) {
		fail_msg("no fault '%s' in:\n%s", wanted, faults);
	}
}

static void sections_entries_comments_and_quotes_are_read(void **state)
{
	(void)state;
	struct conf *conf = read_text("\xef\xbb\xbf; top\r\n[one]\r\na = b ; why\nc=\"x ; y \" ; z\n# no\n\n[listen web]\nport = 1;2\n[empty]", 0);
	const struct conf_section *one = conf_sections(conf);
	assert_string_equal(one->name, "one");
	assert_null(one->label);
	assert_int_equal(one->line, 2);
	assert_string_equal(one->entries->value, "b");
	assert_string_equal(one->entries->next->value, "x ; y ");
	assert_int_equal(one->entries->next->line, 4);
	assert_string_equal(conf_find(conf, "listen", "web")->entries->value, "1;2");
	assert_non_null(conf_find(conf, "empty", NULL));
	assert_null(conf_find(conf, "listen", NULL));
	conf_free(&conf);
}

static void every_fault_is_named_with_its_line_and_reading_goes_on(void **state)
{
	(void)state;
	char text[9000];
	snprintf(text, sizeof(text), "early = 1\n[a]\nx\n  y = 1\n[b\n[a]\n[B!]\nq = \"open\n= v\n[l]\nk = %05000d\nz = \xff\n", 0);
	struct conf *conf = read_text(text, -EINVAL);
	assert_fault("t.conf:1: 'early' stands before any [section]");
	assert_fault("t.conf:3: expected 'key = value'");
	assert_fault("t.conf:4: an indented line");
	assert_fault("t.conf:5: a section is written [name]");
	assert_fault("t.conf:6: [a] is at t.conf:2 already");
	assert_fault("t.conf:7: 'B!' is no section name");
	assert_fault("t.conf:8: a quoted value ends with a quote");
	assert_fault("t.conf:9: a key is missing");
	assert_fault("t.conf:11: the line is longer than 4095 bytes");
	assert_fault("t.conf:12: the line is not UTF-8 text");
	conf_free(&conf);
}

struct all {
	bool on;
	int64_t number, size;
	double time;
	const char *text, *path, *needed;
	int choice;
	const char *const *list;
};

static const char *const choices[] = { "first", "second", NULL };

static const struct stk_option options[] = {
	{ "on", STK_OPT_BOOL, offsetof(struct all, on), "off", 0, 0, "A switch", NULL },
	{ "number", STK_OPT_INT, offsetof(struct all, number), "3", -5, 100, "A number", NULL },
	{ "size", STK_OPT_BYTES, offsetof(struct all, size), "4 KiB", 0, 1 << 30, "A size", NULL },
	{ "time", STK_OPT_SECONDS, offsetof(struct all, time), "30s", 0, 86400000, "A duration", NULL },
	{ "text", STK_OPT_STR, offsetof(struct all, text), NULL, 0, 10, "A text", NULL },
	{ "path", STK_OPT_PATH, offsetof(struct all, path), NULL, 0, 100, "A path", NULL },
	{ "choice", STK_OPT_ENUM, offsetof(struct all, choice), "first", 0, 0, "A choice", choices },
	{ "list", STK_OPT_LIST, offsetof(struct all, list), NULL, 0, 3, "A list", NULL },
	{ 0 },
};
static const struct option_table table = { .options = options, .stride = sizeof(*options) };

static int apply(const char *text, struct all *all)
{
	struct conf *conf = read_text(text, 0);
	*all = (struct all){ 0 };
	int rc = conf_apply(conf_sections(conf), &table, all, collect, NULL);
	conf_free(&conf);
	return rc;
}

static void defaults_hold_where_nothing_is_set(void **state)
{
	(void)state;
	struct all all;
	assert_int_equal(apply("[all]", &all), 0);
	assert_false(all.on);
	assert_int_equal(all.number, 3);
	assert_int_equal(all.size, 4096);
	assert_true(all.time == 30.0);
	assert_null(all.text);
	assert_int_equal(all.choice, 0);
	option_free(&table, &all);
}

static void each_type_is_parsed(void **state)
{
	(void)state;
	struct all all;
	assert_int_equal(apply("[all]\non = yes\nnumber = -5\nsize = 2 MiB\ntime = 250ms\ntext = t\npath = p\nchoice = second\nlist = a , b,c", &all), 0);
	assert_true(all.on);
	assert_int_equal(all.number, -5);
	assert_int_equal(all.size, 2 * 1024 * 1024);
	assert_true(all.time == 0.25);
	assert_string_equal(all.text, "t");
	assert_string_equal(all.path, "./p");
	assert_int_equal(all.choice, 1);
	assert_string_equal(all.list[1], "b");
	assert_null(all.list[3]);
	option_free(&table, &all);
}

static void wrong_values_are_faults_and_nothing_is_clamped(void **state)
{
	(void)state;
	struct all all;
	static const struct {
		const char *line, *fault;
	} cases[] = {
		{ "on = 2", "t.conf:2: on: '2' is not on or off" },
		{ "number = 101", "t.conf:2: number: 101 is out of range (-5 to 100)" },
		{ "number = 3x", "t.conf:2: number: '3x' is not a whole number" },
		{ "number =", "t.conf:2: number: '' is not a whole number" },
		{ "number = 99999999999999999999", "out of range" },
		{ "size = 3 mb", "t.conf:2: size: '3 mb' is not a size" },
		{ "size = 99999999999 GiB", "out of range" },
		{ "time = 30", "t.conf:2: time: '30' is not a duration" },
		{ "time = 2d", "t.conf:2: time: 2d is out of range" },
		{ "text = 12345678901", "t.conf:2: text: must have 0 to 10 bytes" },
		{ "choice = third", "t.conf:2: choice: 'third' is none of first, second" },
		{ "list = a,b,c,d", "t.conf:2: list: must name 0 to 3" },
		{ "nubmer = 1", "t.conf:2: unknown key 'nubmer' in [all]; did you mean 'number'?" },
		{ "zzzzzzzz = 1", "t.conf:2: unknown key 'zzzzzzzz' in [all]\n" },
		{ "on = yes\non = no", "t.conf:3: 'on' was set in line 2 already" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char text[256];
		snprintf(text, sizeof(text), "[all]\n%s\n", cases[i].line);
		assert_int_equal(apply(text, &all), -EINVAL);
		assert_fault(cases[i].fault);
		option_free(&table, &all);
	}
}

/* ---- the core's sections ---- */

static struct settings *load_file(const char *text, int wanted)
{
	char dir[] = "/tmp/test_conf.XXXXXX", file[64], plugins[64];
	struct conf *conf = conf_new();
	struct settings *settings = NULL;
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/startalkd.conf", dir);
	snprintf(plugins, sizeof(plugins), "%s/plugins.d", dir);
	assert_int_equal(mkdir(plugins, 0700), 0);
	FILE *out = fopen(file, "w");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
	faults[0] = '\0';
	int rc = settings_load(file, conf, &settings, collect, NULL);
	unlink(file);
	rmdir(plugins);
	rmdir(dir);
	conf_free(&conf);
	if (rc != wanted) {
		fail_msg("%d instead of %d: %s", rc, wanted, faults);
	}
	return settings;
}

static void the_least_configuration_has_the_documented_defaults(void **state)
{
	(void)state;
	struct settings *settings = load_file("[server]\ndomains = Example.org, b.example\nstate-dir = state\nplugins-dir = plugins.d\n", 0);
	assert_string_equal(settings->server.domains[0], "example.org");
	assert_string_equal(settings->server.domains[1], "b.example");
	assert_non_null(strstr(settings->server.state_dir, "/state"));
	assert_string_equal(settings->listen->address, "127.0.0.1");
	assert_int_equal(settings->listen->port, 5202);
	assert_int_equal(settings->listen->tls, LISTEN_TLS_OPTIONAL);
	assert_null(settings->listen->next);
	assert_false(settings->tls.session_tickets);
	assert_int_equal(settings->limits.max_frame_login, 4096);
	assert_int_equal(settings->limits.max_depth, CHECK_DEPTH);
	assert_int_equal(settings->limits.max_headers, check_client.headers);
	assert_int_equal(settings->limits.max_parts, check_client.others);
	assert_int_equal(settings->limits.max_fields, check_client.fields);
	assert_true(settings->login.failure_delay == 0.5);
	settings_free(&settings);
}

static void contradictions_between_options_are_faults(void **state)
{
	(void)state;
	load_file("[listen]\n", -EINVAL);
	assert_fault("there is no [server] section");
	load_file("[server]\nstate-dir = s\n", -EINVAL);
	assert_fault("[server] lacks 'domains'");
	load_file("[server]\ndomains = a@b, c, C\nstate-dir = s\n[tls]\nkey = k\n[listen]\n[listen two]\naddress = 1.2.3\n[listen three]\n"
	          "[limits]\nmax-frame = 2000\n[log two]\nlevel = info\n", -EINVAL);
	assert_fault("domains: 'a@b' is no domain");
	assert_fault("domains: 'c' stands there twice");
	assert_fault("'certificate' is missing");
	assert_fault("address: '1.2.3' is no IP address");
	assert_fault("listens on 127.0.0.1 port 5202, as ");
	assert_fault("max-frame-login must not be larger than max-frame");
	assert_fault("[log two]: only [listen] takes a label");
	load_file("[server]\ndomains = a\nstate-dir = s\nplugins-dir = nowhere\n", -ENOENT);
	assert_fault("nowhere: cannot be read: No such file");
}

static void a_missing_file_is_told_as_missing(void **state)
{
	(void)state;
	struct conf *conf = conf_new();
	struct settings *settings = NULL;
	faults[0] = '\0';
	assert_int_equal(settings_load("/nowhere/startalkd.conf", conf, &settings, collect, NULL), -ENOENT);
	assert_fault("/nowhere/startalkd.conf: cannot be read: No such file");
	conf_free(&conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sections_entries_comments_and_quotes_are_read),
		cmocka_unit_test(every_fault_is_named_with_its_line_and_reading_goes_on),
		cmocka_unit_test(defaults_hold_where_nothing_is_set),
		cmocka_unit_test(each_type_is_parsed),
		cmocka_unit_test(wrong_values_are_faults_and_nothing_is_clamped),
		cmocka_unit_test(the_least_configuration_has_the_documented_defaults),
		cmocka_unit_test(contradictions_between_options_are_faults),
		cmocka_unit_test(a_missing_file_is_told_as_missing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
