# SPDX-License-Identifier: MIT
"""doc/module-promises.md: its tests exist, and what is changed to see them fail is still there. And two promises that nothing else shows."""
import os
import re
import signal
import sys

import pytest
from stk import plugin
from stk.wire import ROOT

sys.path.insert(0, os.path.join(ROOT, "tests", "promises"))
import promises  # noqa: E402

OLDER = r"""
#include <stddef.h>
#include <startalkd/module.h>

/* As a compiler that has an older module.h would make them: the structs end earlier, and say so. */
static int answer(struct stk_module *module, struct stk_session *session, struct stk_stanza *stanza, void *arg)
{
	(void)module; (void)session; (void)arg;
	return stk_reply(stanza, NULL);
}

static int load(struct stk_module *module, const void *conf)
{
	struct { uint32_t size; enum stk_element element; const char *type, *xmlns; } match =
		{ offsetof(struct stk_match, domain), STK_IQ, "get", "urn:example:older" };
	(void)conf;
	return stk_handle(module, (const struct stk_match *)(const void *)&match, answer, NULL);
}

struct def { uint32_t magic; uint16_t major, minor; uint32_t size; const char *name, *version; const char *const *needs;
	const struct stk_option *options; uint16_t option_size; size_t conf_size;
	int (*check)(const void *, char *, size_t); int (*load)(struct stk_module *, const void *);
	int (*reload)(struct stk_module *, const void *); void (*unload)(struct stk_module *); };
STK_EXPORT extern const struct def stk_older __asm__("stk_module_def");
const struct def stk_older = { STK_ABI_MAGIC, STK_ABI_MAJOR, 0, sizeof(struct def), "older", "1", NULL, NULL, 0, 0, NULL, load, NULL, NULL };
"""

ORDERED = r"""
#include <syslog.h>
#include <startalkd/module.h>
static const char *const needs[] = { NEEDS };
static int tell(struct stk_module *module, const struct stk_event *event, void *arg)
{
	(void)arg;
	if (stk_stanza_element(event->stanza) == STK_MESSAGE) stk_log(module, LOG_INFO, "in turn");
	return STK_PASS;
}
static int load(struct stk_module *module, const void *conf)
{
	(void)conf;
	return stk_on(module, STK_STANZA_IN, PRIORITY, tell, NULL);
}
STK_MODULE(.name = NAME, .version = "1", .needs = needs, .load = load);
"""


def build(tmp_path, name, source, *defines):
    path = tmp_path / f"{name}.c"
    path.write_text(source)
    plugin.build(str(tmp_path / "modules"), str(path), ("cc", "-std=c17", *defines))


def test_a_module_that_was_built_for_an_older_header_runs_unchanged(make_server, connect, tmp_path):
    where = plugin.modules_dir(str(tmp_path / "modules"))
    build(tmp_path, "older", OLDER)
    server = make_server(server=where, plugins={"70-older": "[older]"})
    answer = connect(server).login().iq(key="query", namespace="urn:example:older")
    assert answer.inner.definedKey == 80


def test_hooks_run_by_priority_then_in_the_order_of_the_configuration_whatever_was_loaded_first(make_server, connect, tmp_path):
    where = plugin.modules_dir(str(tmp_path / "modules"))
    for name, needs, priority in (("first", '"second", NULL', 0), ("second", "NULL", 0), ("urgent", "NULL", 5), ("last", "NULL", -5)):
        build(tmp_path, name, ORDERED, f'-DNAME="{name}"', f"-DNEEDS={needs}", f"-DPRIORITY={priority}")
    server = make_server(server=where, plugins={"70-last": "[last]", "71-first": "[first]", "72-second": "[second]", "73-urgent": "[urgent]"})
    plan = server.run("--plan").stdout
    assert plan.index("second  ") < plan.index("first  "), "it is loaded first, because the other one needs it"
    alice = connect(server).login()

    def turn():
        since = len(server.lines)
        alice.receipt(alice.message("bob@example.org"))
        server.wait_log("last: in turn", since=since)
        return [match.group(1) for line in server.lines[since:] if (match := re.search(r"info (\w+): in turn", line))]

    wanted = ["urgent", "first", "second", "last"]
    assert turn() == wanted
    server.plugin("72-second", None)  # refused: the first needs it
    since = len(server.lines)
    server.signal(signal.SIGHUP)
    server.wait_log("reload: refused", since=since)
    assert turn() == wanted
    server.plugin("71-first", None)
    server.signal(signal.SIGHUP)
    server.wait_log("reload: done", since=since)
    assert turn() == ["urgent", "last"]


def test_each_promise_names_tests_that_exist():
    with open(os.path.join(ROOT, "doc", "module-promises.md"), encoding="utf-8") as file:
        text = file.read()
    rows = re.findall(r"^\| (\d+) \| ", text, re.M)
    assert rows == [str(number) for number in range(1, len(promises.COMPLAINTS) + 1)]
    named = re.findall(r"`(test_\w+)\.(test_\w+)`", text)
    assert len(named) >= len(rows)
    for file_name, test in named:
        with open(os.path.join(ROOT, "tests", "functional", f"{file_name}.py"), encoding="utf-8") as file:
            assert f"def {test}(" in file.read(), f"{file_name}.{test}"


@pytest.mark.parametrize("number", range(1, len(promises.COMPLAINTS) + 1))
def test_what_is_taken_away_to_see_a_promise_fail_is_there(number):
    assert promises.BREAKS[number], "every row has one"
    for one in promises.BREAKS[number]:
        with open(os.path.join(ROOT, one.file), encoding="utf-8") as file:
            assert file.read().count(one.old) == 1, one
