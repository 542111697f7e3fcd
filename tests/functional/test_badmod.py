# SPDX-License-Identifier: MIT
"""Modules that break the rules, those of tests/badmod: what the server answers and logs, and that it goes on."""
import json
import re
import signal
import subprocess
import time

import pytest
from stk import plugin, wire
from stk.server import program
from stk.wire import pb
from test_login import check_failure
from test_refusals import is_error
from test_reload import reload


@pytest.fixture
def with_bad(make_server, tmp_path):
    """with_bad("slow", ...): a server that has these modules; enabled: those that are enabled from the start, all unless given."""

    def make(*names, start=True, enabled=None, **kwargs):
        line = plugin.modules_dir(tmp_path / "modules", bad=names)
        sections = names if enabled is None else enabled
        plugins = {**{f"90-{name}": f"[{name}]" for name in sections}, **kwargs.pop("plugins", {})}
        return make_server(start=start, server=line, plugins=plugins, **kwargs)

    return make


def ask(client, name):
    return client.iq(namespace=f"urn:bad:{name}", key="query")


def request(client, name, message_id):
    return wire.frame(wire.IQ, pb.IQMessage(namespace=f"urn:bad:{name}", key="query", messageId=message_id), client.jid, None)


def sanitized():
    done = subprocess.run(["nm", "-D", program("startalkd")], capture_output=True, text=True, check=True)
    return "__asan_init" in done.stdout or "__tsan_init" in done.stdout


# ---- those that are not loaded at all ----

STILLBORN = {
    "old_major": r"module 'old_major': \S+/old_major\.so: built for module API 0\.\d+, this server has 1\.\d+; "
                 r"rebuild the module against the server's headers, or upgrade the server",
    "new_minor": r"module 'new_minor': \S+/new_minor\.so: built for module API 1\.(\d+), this server has 1\.(\d+); "
                 r"rebuild the module against the server's headers, or upgrade the server",
    "no_symbol": r"module 'no_symbol': \S+/no_symbol\.so: has no symbol stk_module_def; define it with STK_MODULE\(\)",
    "no_magic": r"module 'no_magic': \S+/no_magic\.so: stk_module_def does not begin with STK_ABI_MAGIC; define it with STK_MODULE\(\)",
    "small": r"module 'small': \S+/small\.so: its definition has \d+ bytes, at least \d+ are wanted; define it with STK_MODULE\(\)",
    "other_name": r"module 'other_name': \S+/other_name\.so: calls itself 'somebody'; section, file and name must be the same",
    "no_load": r"module 'no_load': \S+/no_load\.so: its definition lacks name or load",
    "missing_symbol": r"module 'missing_symbol': \S+/missing_symbol\.so: .*undefined symbol: stk_from_the_future",
    "narrow_options": r"module 'narrow_options': \S+/narrow_options\.so: its option_size is 0, at least \d+ are wanted; define it with STK_MODULE\(\)",
    "wide_options": r"module 'wide_options': \S+/wide_options\.so: its option 'second' lies outside of its configuration struct; is conf_size right\?",
}


@pytest.mark.parametrize("name", STILLBORN)
def test_a_file_that_is_no_module_of_this_server_is_told_with_file_and_line(with_bad, name):
    server = with_bad(name, start=False)
    for done in (server.run("--check"), server.run()):
        assert done.returncode == 1
        assert re.search(rf"^startalkd: \S+/90-{name}\.conf:1: {STILLBORN[name]}$", done.stderr, re.M), done.stderr


@pytest.mark.parametrize("name", STILLBORN)
def test_a_reload_that_adds_it_is_refused_and_the_server_goes_on(with_bad, connect, name):
    server = with_bad(name, enabled=[])
    client = connect(server).login()
    server.plugin(f"90-{name}", f"[{name}]")
    assert re.search(rf"/90-{name}\.conf:1: {STILLBORN[name]}$", reload(server, "refused"), re.M)
    assert client.ping().inner.value == "ping"


FAULTS = {
    "needs_missing": (["needs_missing"], r"90-needs_missing\.conf:1: module 'needs_missing' needs module 'nosuch', which has no section in the configuration"),
    "cycle": (["cycle_a", "cycle_b"], r"90-cycle_a\.conf:1: module 'cycle_a' needs module 'cycle_b', and that one in turn waits for it"),
    "bad_default": (["bad_default"], r"size: 10 is out of range \(0 to 9\)"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_wrong_with_the_configuration_is_found_without_loading(with_bad, case):
    names, fault = FAULTS[case]
    server = with_bad(*names, start=False)
    for done in (server.run("--check"), server.run()):
        assert done.returncode == 1 and re.search(fault + "$", done.stderr, re.M), done.stderr


@pytest.mark.parametrize("text, fault", [
    ("[options]\nsise = 3", r"90-options\.conf:2: unknown key 'sise' in \[options\]; did you mean 'size'\?"),
    ("[options]\n\nsize = 10", r"90-options\.conf:3: size: 10 is out of range \(0 to 9\)"),
    ("[options]\nsize = many", r"90-options\.conf:2: size: 'many' is not a whole number"),
    ("[options]\nsize = 1\nsize = 2", r"90-options\.conf:3: 'size' was set in line 2 already"),
])
def test_options_that_are_wrong_are_told_with_file_and_line(with_bad, text, fault):
    server = with_bad("options", start=False, plugins={"90-options": text})
    for done in (server.run("--check"), server.run()):
        assert done.returncode == 1 and re.search(fault + "$", done.stderr, re.M), done.stderr


def test_a_cycle_of_needs_is_refused_by_a_reload_too(with_bad, connect):
    server = with_bad("cycle_a", "cycle_b", enabled=[])
    client = connect(server).login()
    server.plugin("90-cycle", "[cycle_a]\n[cycle_b]")
    assert "module 'cycle_a' needs a module that in turn waits for it" in reload(server, "refused")
    assert client.ping().inner.value == "ping"


# ---- those that fail while they are loaded ----

FAILING = {
    "twice_handler": "module: twice_handler: iq type get xmlns urn:xmpp:ping belongs to module ping already; disable one of them",
    "twice_service": "module: twice_service: service users is offered by module auth_sqlite already; disable one of them",
    "twice_mech": "module: twice_mech: SASL mechanism PLAIN belongs to module auth_sqlite already; disable one of them",
    "half": "module: half: ",
}


@pytest.mark.parametrize("name", FAILING)
def test_a_module_whose_load_fails_keeps_the_server_from_starting(with_bad, name):
    done = with_bad(name, start=False).run()
    assert done.returncode == 1 and FAILING[name] in done.stderr
    assert re.search(rf"module: {name}: \S+/{name}\.so: cannot be loaded: ", done.stderr)


@pytest.mark.parametrize("name", FAILING)
def test_a_reload_with_one_that_fails_changes_nothing(with_bad, connect, name):
    server = with_bad(name, enabled=[])
    client = connect(server).login()
    server.plugin(f"90-{name}", f"[{name}]")
    server.plugin("30-presence", "[presence]\nnavversion = 77")
    assert FAILING[name] in reload(server, "refused")
    assert client.ping().inner.value == "ping"
    server.plugin(f"90-{name}", None)
    server.plugin("30-presence", "[presence]")
    reload(server)
    assert connect(server, "bob").login().ping().inner.value == "ping"


def test_nothing_remains_of_one_that_failed_half_way(with_bad, connect):
    server = with_bad("half", enabled=[])
    client = connect(server).login()
    for _ in range(20):
        server.plugin("90-half", "[half]")
        assert "module: half: " in reload(server, "refused")
        server.plugin("90-half", None)
    assert is_error(ask(client, "half"), "503")
    assert client.ping().inner.value == "ping"
    assert "there is no command 'half'" in server.ctl("half").stderr
    other = connect(server, "bob")
    other.welcome()
    check_failure(other.auth("x", mechanism="HALF"), "example.org", "no-mechanism")
    client.quiet(0.1)  # ten times its timer
    assert not [line for line in server.lines if re.search("half: its|half: it has not", line)]


# ---- those that misbehave while they run ----

def test_a_slow_callback_is_logged_with_its_module(with_bad, connect):
    server = with_bad("slow")
    assert ask(connect(server).login(), "slow").inner.definedKey == 80
    server.wait_log(r" warning module: slow: handler kept the router for 1[2-9]\d ms; work that takes long belongs into a job$")
    counted = next(row for row in json.loads(server.ctl("--json", "status").stdout)["modules"] if row["name"] == "slow")
    assert counted["slow"] == 1


@pytest.mark.parametrize("name", ["silent", "later_without"])
def test_a_request_that_a_handler_takes_without_an_answer_is_answered_and_logged(with_bad, connect, name):
    server = with_bad(name)
    client = connect(server).login()
    assert is_error(ask(client, name), "500")
    server.wait_log(rf" err module: {name}: took a request of 127\.0\.0\.1:\d+ without an answer$")
    assert client.ping().inner.value == "ping"


def test_a_second_answer_is_refused(with_bad, connect):
    server = with_bad("twice_answer")
    client = connect(server).login()
    assert ask(client, "twice_answer").inner.definedKey == 80
    server.wait_log("twice_answer: first 0, second -114, deferred not")
    client.quiet(0.1)


def test_a_deferred_request_that_is_never_answered_times_out(with_bad, connect):
    server = with_bad("never")
    client = connect(server).login()
    assert is_error(ask(client, "never"), "504")
    server.wait_log(" warning module: never: a deferred request got no answer in time$")
    assert client.ping().inner.value == "ping"
    server.plugin("90-never", None)
    reload(server)
    server.wait_log("module: never: unloaded")


def test_what_is_deferred_when_the_module_goes_is_answered(with_bad, connect):
    server = with_bad("never")
    client = connect(server).login()
    server.plugin("90-never", None)
    client.send_bytes(request(client, "never", "gone"))
    assert client.ping()
    reload(server)
    answer = client.expect(wire.IQ, where=lambda frame: frame.inner.messageId == "gone")
    assert is_error(answer, "503")
    client.quiet(0.3)


def test_an_answer_that_comes_too_late_is_told_to_its_module_and_to_nobody_else(with_bad, connect):
    server = with_bad("late")
    client = connect(server).login()
    assert is_error(ask(client, "late"), "504")
    server.wait_log("late: resumed: -125$")
    client.quiet(0.1)


def test_an_answer_for_a_session_that_is_gone_goes_nowhere(with_bad, connect):
    server = with_bad("late")
    client = connect(server).login()
    client.send_bytes(request(client, "late", "x"))
    client.close()
    server.wait_log("late: resumed: -125$")


def test_claims_outside_of_load_are_refused(with_bad, connect):
    server = with_bad("late_claims")
    client = connect(server).login()
    assert ask(client, "late_claims").inner.definedKey == 80
    server.wait_log("late_claims: handle -1, on -1, mech -1, provide -1, slot -1, durability -1$")
    assert is_error(ask(client, "more"), "503")


def test_two_modules_with_a_function_of_the_same_name_each_run_their_own(with_bad, connect):
    server = with_bad("clash_a", "clash_b")
    client = connect(server).login()
    for letter in "abab":
        since = len(server.lines)
        assert ask(client, f"clash_{letter}").inner.definedKey == 80
        server.wait_log(rf"clash_{letter}: it is {letter}$", since=since)


# ---- those that are at work when they have to go ----

def test_a_module_is_unloaded_when_its_job_is_done_and_the_server_does_not_wait(with_bad, connect):
    server = with_bad("long_job")
    client = connect(server).login()
    assert ask(client, "long_job").inner.definedKey == 80
    server.wait_log("long_job: job one is at work")
    server.plugin("90-long_job", None)
    before = time.monotonic()
    reload(server)
    assert client.ping().inner.value == "ping" and is_error(ask(client, "long_job"), "503")
    assert time.monotonic() - before < 0.8
    server.wait_log("long_job: job two: -125, another: -125")
    server.wait_log("long_job: job one: 0, another: -125")
    server.wait_log("module: long_job: unloaded")
    server.wait_log("long_job: unload$")
    ours = [line.split("long_job: ", 1)[1] for line in server.lines if "long_job: " in line][-4:]
    assert ours == ["job two: -125, another: -125", "job one: 0, another: -125", "unloaded", "unload"], ours


def test_a_server_that_stops_waits_for_the_job_that_runs(with_bad, connect):
    server = with_bad("long_job")
    client = connect(server).login()
    assert ask(client, "long_job").inner.definedKey == 80
    server.wait_log("long_job: job one is at work")
    server.stop()
    told = [line for line in server.lines if "long_job: " in line]
    assert any("job one: 0" in line for line in told) and any("job two: -125" in line for line in told) and "unload" in told[-1], told


def test_a_job_that_never_ends_does_not_keep_its_module(with_bad, connect):
    server = with_bad("never_ends")
    client = connect(server).login()
    assert ask(client, "never_ends").inner.definedKey == 80
    server.wait_log("never_ends: a job is at work")
    server.plugin("90-never_ends", None)
    reload(server)
    server.wait_log(" err module: never_ends: a job has not ended in 0\\.[5-9] s and is written off: what it holds is lost$")
    server.wait_log("module: never_ends: unloaded")
    server.wait_log("never_ends: unload$")
    assert client.ping().inner.value == "ping"
    assert not [line for line in server.lines if "never_ends: done" in line]


@pytest.mark.parametrize("way", ["reload", "stop"])
def test_timers_and_watches_that_nobody_stopped_end_with_their_module(with_bad, connect, way):
    server = with_bad("leaves_running")
    server.wait_log("leaves_running: ticks")
    server.wait_log("leaves_running: reads")
    if way == "stop":
        server.stop()
    else:
        server.plugin("90-leaves_running", None)
        reload(server)
    server.wait_log("leaves_running: unload after some ticks and some reads")
    if way == "reload":
        since = len(server.lines)
        assert connect(server).login().ping()
        assert not [line for line in server.lines[since:] if "leaves_running" in line]


@pytest.mark.parametrize("way", ["reload", "stop"])
def test_posts_from_a_thread_of_its_own_during_unload_are_refused_and_none_is_lost(with_bad, connect, way):
    server = with_bad("poster")
    client = connect(server).login()
    for _ in range(1 if way == "stop" else 5):
        since = len(server.lines)
        if way == "stop":
            client.close()
            server.stop()
        else:
            server.plugin("90-poster", None)
            reload(server)
            assert client.ping().inner.value == "ping"
        server.wait_log(r"poster: the last post: -125, lost: 0$", since=since)
        if way == "reload":
            server.plugin("90-poster", "[poster]")
            reload(server)


def test_bad_modules_come_and_go_together(with_bad, connect):
    names = ["slow", "never", "late", "leaves_running", "poster", "long_job", "clash_a", "clash_b"]
    server = with_bad(*names)
    client = connect(server).login()
    for _ in range(3):
        for name in ("never", "late", "long_job"):
            client.send_bytes(request(client, name, f"{name}-x"))
        for name in names:
            server.plugin(f"90-{name}", None)
        reload(server)
        for name in names:
            server.plugin(f"90-{name}", f"[{name}]")
        reload(server)
    assert client.ping().inner.value == "ping"


# ---- those that crash ----

def died(server, number, text):
    """The server is ended by a signal, and has said so."""
    server.wait_log(rf"^startalkd: crashed \({signal.Signals(number).name}\) {text}$")
    assert server.process.wait(20) == -number
    server.thread.join(5)
    server.process = None


@pytest.fixture
def unsanitized():
    if sanitized():
        pytest.skip("a sanitizer tells of crashes itself")


@pytest.mark.parametrize("where, how, number", [
    ("load", "segv", signal.SIGSEGV), ("load", "abort", signal.SIGABRT), ("load", "fpe", signal.SIGFPE), ("load", "deep", signal.SIGSEGV),
    ("check", "segv", signal.SIGSEGV)])
def test_a_crash_at_the_start_names_the_module(with_bad, unsanitized, where, how, number):
    server = with_bad("crash", start=False, plugins={"90-crash": f"[crash]\nwhere = {where}\nhow = {how}"})
    done = server.run()
    assert done.returncode == -number
    assert f"startalkd: crashed ({number.name}) while module crash was in {where}\n" in done.stderr


@pytest.mark.parametrize("where, how, number", [
    ("handler", "segv", signal.SIGSEGV), ("handler", "deep", signal.SIGSEGV), ("hook", "abort", signal.SIGABRT)])
def test_a_crash_in_a_callback_names_module_and_callback(with_bad, connect, unsanitized, where, how, number):
    server = with_bad("crash", plugins={"90-crash": f"[crash]\nwhere = {where}\nhow = {how}"})
    client = connect(server)
    with pytest.raises((AssertionError, OSError)):
        ask(client.login(), "crash")
    died(server, number, f"while module crash was in {where}")


@pytest.mark.parametrize("where, how, number", [
    ("timer", "segv", signal.SIGSEGV), ("job", "segv", signal.SIGSEGV), ("job", "deep", signal.SIGSEGV), ("post", "abort", signal.SIGABRT),
    ("load", "segv", signal.SIGSEGV), ("unload", "segv", signal.SIGSEGV)])
def test_a_crash_of_one_that_was_added_names_it_too(with_bad, unsanitized, where, how, number):
    server = with_bad("crash", enabled=[])
    server.plugin("90-crash", f"[crash]\nwhere = {where}\nhow = {how}")
    server.signal(signal.SIGHUP)
    if where == "unload":
        server.wait_log("reload: done")
        server.plugin("90-crash", None)
        server.signal(signal.SIGHUP)
    died(server, number, f"while module crash was in {where}")


def test_a_crash_of_the_server_itself_blames_no_module(server, unsanitized):
    server.signal(signal.SIGSEGV)
    died(server, signal.SIGSEGV, "outside of modules")
