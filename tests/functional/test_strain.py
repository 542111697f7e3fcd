# SPDX-License-Identifier: MIT
"""What the operator sees of modules, and is kept safe from: figures, metrics, levels of the log, jobs that do not end."""
import re
import signal
import subprocess
import time

import pytest
from stk import plugin, wire
from test_admin import lines, ok, wait_for
from test_reload import reload

QUERY = {"namespace": "urn:test:strain", "key": "query"}


@pytest.fixture
def strained(make_server, tmp_path):
    """strained(options of [strain], ...): a server with the module strain."""
    where = plugin.modules_dir(tmp_path / "modules", "strain.c")

    def make(options="", **kwargs):
        plugins = {"90-strain": f"[strain]\n{options}\n", **kwargs.pop("plugins", {})}
        return make_server(server=where + "\n" + kwargs.pop("server", ""), plugins=plugins, **kwargs)
    return make


def do(server, what):
    return ok(server.ctl("strain", what)).strip()


def hang(server, how="hang"):
    since = len(server.lines)
    do(server, how)
    server.wait_log("strain: hanging is at work", since=since)


def figures(server, name="strain"):
    status, = lines(server.ctl("--json", "status"))
    return next((module for module in status["modules"] if module["name"] == name), None)


def metrics(server):
    return {line["name"]: line["value"] for line in lines(server.ctl("--json", "metrics"))}


def open_gate(server):
    with open(server.path("state", "gate"), "w", encoding="utf-8"):
        pass


def count(server, pattern):
    return sum(bool(re.search(pattern, line)) for line in server.lines)


def defer(client):
    """Asks what gets no answer."""
    client.ids += 1
    client.send(wire.IQ, wire.pb.IQMessage(messageId=f"held-{client.ids}", **QUERY), client.jid)


# ---- figures and metrics ----

def test_metrics_of_modules_are_listed_sorted_by_name(strained, connect):
    server = strained()
    listed = ok(server.ctl("metrics")).splitlines()
    assert listed == sorted(listed) and set(listed) >= {"strain_asked 0", "strain_back 0", "strain_held 0"}
    client = connect(server).login()
    defer(client), defer(client)
    wait_for(lambda: metrics(server)["strain_asked"] == 2)
    assert metrics(server)["strain_held"] == 2
    assert {line["help"] for line in lines(server.ctl("--json", "metrics")) if line["name"].startswith("strain_")} == {
        "Requests so far", "Requests without an answer", "Jobs that came back"}


def test_a_metric_with_a_wrong_or_used_name_is_refused_and_told(strained):
    server = strained()
    server.wait_log("module: strain: metric 'asked': there is one of this name already")
    server.wait_log("module: strain: metric 'Not-A-Name': a name has a to z")


def test_metrics_go_with_their_module_and_start_anew(strained, connect):
    server = strained()
    client = connect(server).login()
    defer(client)
    wait_for(lambda: metrics(server)["strain_asked"] == 1)
    server.plugin("90-strain", "[strain]\nresume = on")
    reload(server)
    assert metrics(server)["strain_asked"] == 0
    server.plugin("90-strain", None)
    reload(server)
    assert "strain" not in ok(server.ctl("metrics"))


def test_status_tells_what_each_module_has_cost(strained, connect):
    server = strained()
    client = connect(server).login()
    for _ in range(5):
        client.ping()
    ping = figures(server, "ping")
    assert (ping["stanzas"], ping["calls"], ping["slow"], ping["jobs"]) == (5, 5, 0, 0)
    assert 0 < ping["microseconds"] < 50000 * 5
    do(server, "quick")
    server.wait_log("strain: quick is done: 0")
    mine = figures(server)
    assert (mine["jobs"], mine["jobs-under-way"], mine["jobs-lost"]) == (1, 0, 0)
    text = ok(server.ctl("status"))
    assert re.search(r"^MODULE +VERSION +CALLS +STANZAS +MS +SLOW +JOBS +NOW +LOST$", text, re.M)
    assert re.search(r"^ping +0\.1 +5 +5 +\d+\.\d +0 +0 +0 +0$", text, re.M), text


def test_a_call_that_keeps_the_router_is_logged_and_counted(strained):
    server = strained()
    do(server, "slow")
    server.wait_log(r"module: strain: timer kept the router for \d+ ms")
    assert figures(server)["slow"] == 1 and figures(server)["microseconds"] >= 80000


def test_time_in_another_modules_hook_is_that_modules_own(strained, connect):
    server = strained("slow-hook = on")
    client = connect(server).login()
    before = figures(server)
    client.ping(), client.ping()
    assert figures(server)["slow"] - before["slow"] == 2
    assert figures(server)["microseconds"] - before["microseconds"] >= 160000
    assert figures(server, "ping")["slow"] == 0 and figures(server, "ping")["microseconds"] < 80000
    assert not count(server, "module: ping: .* kept the router")


# ---- jobs that do not end ----

def test_a_job_past_its_limit_is_written_off_and_its_key_is_free(strained):
    server = strained("job-limit = 200ms", server="workers = 1")
    hang(server), do(server, "quick")
    server.wait_log(r"err module: strain: a job has not ended in 0\.\d s and is written off")
    server.wait_log("strain: quick is done: 0")
    mine = figures(server)
    assert (mine["jobs"], mine["jobs-under-way"], mine["jobs-lost"]) == (1, 0, 1)
    open_gate(server)
    server.wait_log("module: strain: a job that was written off has ended after all")
    server.wait_log("strain: a hanging job is back, its post: taken")
    server.wait_log("strain: the post of a late job")
    assert not count(server, "hanging is done")
    assert metrics(server)["strain_back"] == 1


def test_a_limit_of_the_operator_reaches_a_job_that_hangs_already(strained):
    server = strained()
    hang(server)
    time.sleep(0.3)
    assert figures(server)["jobs-under-way"] == 1
    with open(server.path("startalkd.conf"), encoding="utf-8") as file:
        text = file.read()
    with open(server.path("startalkd.conf"), "w", encoding="utf-8") as file:
        file.write(text.replace("[limits]", "[limits]\njob-time-limit = 2s"))
    reload(server)
    server.wait_log("module: strain: a job has not ended")
    assert figures(server)["jobs-lost"] == 1
    open_gate(server)
    server.wait_log("written off has ended")


def test_the_limit_of_a_module_goes_before_that_of_the_operator(strained):
    server = strained("job-limit = 60s", limits="job-time-limit = 2s")  # other modules have jobs, too
    hang(server)
    time.sleep(2.5)
    assert figures(server)["jobs-lost"] == 0
    open_gate(server)
    server.wait_log("strain: hanging is done: 0")


def test_a_module_is_unloaded_without_a_job_that_was_written_off(strained, connect):
    server = strained("job-limit = 200ms")
    client = connect(server).login()
    hang(server)
    server.plugin("90-strain", None)
    reload(server)
    server.wait_log("module: strain: a job has not ended")
    server.wait_log("module: strain: unloaded while 1 of its jobs still runs")
    server.plugin("90-strain", "[strain]")
    reload(server)
    open_gate(server)
    server.wait_log("strain: a hanging job is back, its post: Operation canceled")
    server.wait_log("module: strain: a job that was written off has ended after all")
    assert not count(server, "the post of a late job")
    assert figures(server)["jobs-lost"] == 0 and client.ping()


def test_a_hanging_job_does_not_keep_the_server_from_stopping(strained, connect):
    server = strained()
    alice, bob = connect(server).login(), connect(server, "bob").login()
    alice.message(bob.jid.split("/")[0], "before the end")
    bob.expect(wire.CHAT)
    hang(server)
    wait_for(lambda: figures(server)["jobs-under-way"] == 1)
    begun = time.monotonic()
    server.stop()
    assert 9 < time.monotonic() - begun < 15
    log = "\n".join(server.lines)
    assert re.search(r"module: strain: a job has not ended in 1\d\.\d s .*; the server stops without it", log)
    done = subprocess.run(["sqlite3", server.path("state", "archive.db"), "PRAGMA integrity_check; SELECT count(*) FROM messages"],
                          capture_output=True, text=True, timeout=20)
    assert done.stdout == "ok\n1\n", done
    assert connect(server.start()).login().ping()


def test_a_write_that_hangs_is_named_and_does_not_keep_the_server_from_stopping(strained, connect):
    server = strained()
    alice, bob = connect(server).login(), connect(server, "bob").login()
    hang(server, "hang-writing")
    message = alice.message(bob.jid.split("/")[0], "before the end")
    assert alice.receipt(message)
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    took = time.monotonic() - begun
    print(f"the stop took {took:.1f} s")
    assert 19 < took < 40
    server.process = None
    server.thread.join(5)
    assert count(server, r"db: strain.db: a write of module strain has not ended in 20 s: the server stops without it")
    assert count(server, "module: strain: not unloaded: its writes are not through")
    assert count(server, "the process ends without them")
    done = subprocess.run(["sqlite3", server.path("state", "archive.db"), "PRAGMA integrity_check; SELECT count(*) FROM messages"],
                          capture_output=True, text=True, timeout=20)
    assert done.stdout == "ok\n1\n", done
    assert connect(server.start()).login().ping()
    open_gate(server)


def test_a_write_that_takes_its_time_is_waited_for_at_a_stop(strained):
    server = strained()
    hang(server, "hang-writing")
    server.signal(signal.SIGTERM)
    time.sleep(1)
    assert server.process.poll() is None
    open_gate(server)
    assert server.process.wait(20) == 0
    server.process = None
    server.thread.join(5)
    assert count(server, "strain: hanging is done: 0")
    assert not count(server, "has not ended|do not end")


def test_a_job_with_a_limit_holds_up_a_stop_for_its_limit_only(strained):
    server = strained("job-limit = 500ms")
    hang(server)
    begun = time.monotonic()
    server.stop()
    assert time.monotonic() - begun < 8
    assert count(server, "module: strain: a job has not ended in 0")


def test_one_module_cannot_fill_the_queue_for_all(strained, connect):
    server = strained(limits="max-jobs = 20")
    assert do(server, "flood") == "20 jobs, then -EAGAIN"
    assert figures(server)["jobs-under-way"] == 20
    assert connect(server).login().ping()
    with open(server.path("startalkd.conf"), encoding="utf-8") as file:
        text = file.read()
    with open(server.path("startalkd.conf"), "w", encoding="utf-8") as file:
        file.write(text.replace("max-jobs = 20", "max-jobs = 30"))
    reload(server)
    assert do(server, "flood") == "10 jobs, then -EAGAIN"
    open_gate(server)
    wait_for(lambda: figures(server)["jobs"] == 30)
    assert figures(server)["jobs-under-way"] == 0


# ---- levels of the log ----

def set_log(server, text):
    with open(server.path("startalkd.conf"), encoding="utf-8") as file:
        whole = file.read()
    with open(server.path("startalkd.conf"), "w", encoding="utf-8") as file:
        file.write(re.sub(r"\[log\]\n(.+\n)*?\[login\]", f"[log]\n{text}\n[login]", whole))


def words(server):
    since = len(server.lines)
    do(server, "talk"), do(server, "quick")
    server.wait_log("strain: quick is done|command: strain quick", since=since)
    return [word for word in ("debug", "warning") if any(f"strain: a word of {word}" in line for line in server.lines[since:])]


def test_one_module_can_be_made_to_say_more_or_less(strained):
    server = strained(start=False)
    set_log(server, "level = notice\nmodules = strain=debug, admin=info")
    server.start()
    server.wait_log("debug strain: loading")
    assert words(server) == ["debug", "warning"]
    assert not count(server, " debug auth_sqlite| debug db| debug router| debug module: ping")
    set_log(server, "level = debug\nmodules = strain=err")
    reload(server)
    assert words(server) == []
    set_log(server, "level = info")
    reload(server)
    assert words(server) == ["warning"]


def test_the_command_line_sets_levels_before_the_file_does(strained):
    server = strained(start=False)
    set_log(server, "level = info\nmodules = strain=err")
    server.args = ["--log", "strain=debug", "--log", "ping=debug"]
    server.start()
    assert words(server) == ["debug", "warning"]
    reload(server)
    assert words(server) == ["debug", "warning"]
    assert count(server, "debug module: ping: loaded from") and not count(server, "debug module: bind: loaded")


@pytest.mark.parametrize("item, fault", [
    ("strian=debug", r"there is no module 'strian' in the configuration; did you mean 'strain'\?"),
    ("strain=loud", r"'strain=loud': 'loud' is none of err, warning, notice, info, debug"),
    ("strain", r"'strain' is not NAME=LEVEL, as message=debug"),
    ("server=debug", r"there is no module 'server' in the configuration"),
])
def test_a_wrong_level_or_module_is_told(strained, item, fault):
    server = strained(start=False)
    for done in (server.run("--log", item), server.run("--check", "--log", item)):
        assert done.returncode == 1 and re.search("^startalkd: --log: " + fault, done.stderr, re.M), done
    set_log(server, f"modules = {item}")
    done = server.run("--check")
    assert done.returncode == 1 and re.search(r"startalkd\.conf:\d+: \[log\] modules: " + fault, done.stderr), done


# ---- what is left at unload ----

def test_requests_that_nobody_resumed_are_told_when_their_module_goes(strained, connect):
    server = strained()
    client = connect(server).login()
    defer(client), defer(client), defer(client)
    wait_for(lambda: metrics(server)["strain_asked"] == 3)
    server.plugin("90-strain", None)
    reload(server)
    server.wait_log("warning module: strain: 3 deferred requests were never resumed")
    assert client.ping()


def test_requests_can_be_resumed_in_unload_and_say_that_it_is_too_late(strained, connect):
    server = strained("resume = on")
    client = connect(server).login()
    defer(client)
    wait_for(lambda: metrics(server)["strain_asked"] == 1)
    server.plugin("90-strain", None)
    reload(server)
    server.wait_log("strain: resumed late: Operation canceled")
    assert not count(server, "never resumed")
