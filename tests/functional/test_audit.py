# SPDX-License-Identifier: MIT
"""The module audit: JSON lines of who logged in, was refused or kicked, and of what operators changed."""
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time

import pytest
from stk.disk import NoDisk, SmallDisk
from stk.server import ROOT

AUDIT = {"60-audit": "[audit]\n"}


def ok(done):
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def entries(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def wait_for(path, count=1, seconds=10, **wanted):
    """The entries that have these members, once there are so many."""
    until = time.monotonic() + seconds
    while True:
        found = [entry for entry in entries(path) if wanted.items() <= entry.items()] if os.path.exists(path) else []
        if len(found) >= count:
            return found
        assert time.monotonic() < until, f"{wanted} is not in " + "\n".join(open(path, encoding="utf-8"))
        time.sleep(0.02)


@pytest.fixture
def server(make_server):
    return make_server(plugins=AUDIT)


@pytest.fixture
def log(server):
    return server.path("state", "audit.log")


def test_a_login_and_its_end_are_noted_with_time_address_and_user(server, log, connect):
    alice = connect(server).login(resource="here")
    address = "%s:%d" % alice.sock.getsockname()
    entry = wait_for(log, event="login")[0]
    assert entry.items() >= {"user": "alice@example.org", "address": address, "reason": "inside TLS"}.items()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"])
    alice.close()
    entry = wait_for(log, event="logout")[0]
    assert (entry["user"], entry["address"]) == ("alice@example.org/here", address) and "code" not in entry
    assert entries(log)[0]["event"] == "start"
    server.stop()
    assert entries(log)[-1]["event"] == "stop"


def test_a_refused_login_says_why_and_who_it_claimed_to_be(server, log, connect):
    for user, why in (("alice", "wrong password"), ("nobody", "unknown user")):
        client = connect(server, user)
        client.welcome()
        client.starttls()
        client.auth(client.rsa("wr0ng"))
        entry = wait_for(log, event="login-refused", user=f"{user}@example.org")[0]
        assert entry["reason"] == why and entry["address"].startswith("127.0.0.1:")


def test_a_kick_names_the_operator_and_the_reason(server, log, connect):
    alice = connect(server).login(resource="here")
    ok(server.ctl("kick", "alice", "--code", "203", "--reason", "maintenance"))
    alice.expect_end(203)
    entry = wait_for(log, event="kick")[0]
    assert entry.items() >= {"user": "alice@example.org/here", "code": 203, "reason": "maintenance"}.items()
    assert re.fullmatch(rf"uid {os.getuid()}, pid \d+", entry["by"])
    assert wait_for(log, event="command")[0].items() >= {"by": entry["by"], "reason": "kick alice"}.items()
    assert wait_for(log, event="logout")[0].items() >= {"code": 203, "reason": "maintenance"}.items()


def test_changes_of_accounts_are_noted_once_however_they_were_made(server, log):
    wait_for(log, event="account", user="alice@example.org", reason="new")
    ok(server.ctl("user", "add", "carol", input="s3cret\n"))
    server.sql("UPDATE users SET password = 'oth3r' WHERE username = 'carol'")
    wait_for(log, event="account", user="carol@example.org", reason="password")
    ok(server.ctl("user", "disable", "carol"))
    wait_for(log, event="account", user="carol@example.org", reason="disabled")
    server.sql("DELETE FROM users WHERE username = 'carol'")
    wait_for(log, event="account", user="carol@example.org", reason="deleted")
    changes = [entry["reason"] for entry in entries(log) if entry["event"] == "account" and entry["user"] == "carol@example.org"]
    assert changes == ["new", "password", "disabled", "deleted"]
    assert [entry["reason"] for entry in entries(log) if entry["event"] == "command"] == ["user add carol", "user disable carol"]


def test_reloads_and_what_they_change_are_noted_and_looking_is_not(server, log):
    for command in ("help", "status", "metrics", "sessions"):
        ok(server.ctl(command))
    server.plugin("40-ping", None)
    ok(server.ctl("reload", "--dry-run"))
    ok(server.ctl("reload"))
    wait_for(log, event="reload", reason="done")
    assert [entry["reason"] for entry in entries(log) if entry["event"] == "config"] == ["module ping: removed"]
    server.plugin("40-ping", "[ping]\nwrong = 1\n")
    server.signal(signal.SIGHUP)
    wait_for(log, event="reload", reason="refused: everything stays as it was")
    assert [entry["reason"] for entry in entries(log) if entry["event"] == "command"] == ["reload", "reload"]
    server.plugin("60-audit", None)
    server.plugin("40-ping", "[ping]\n")
    ok(server.ctl("reload"))
    assert [entry.get("reason") for entry in wait_for(log, event="config", count=3)][1:] == ["module ping: added", "module audit: removed"]
    assert wait_for(log, event="stop")


def test_no_credential_is_ever_in_it(server, log, connect):
    secrets = ["alice's pw", "wr0ng-pw", "s3cret-new", "plain-inserted", "imp0rted"]
    client = connect(server).login()
    other = connect(server, "bob")
    other.welcome()
    other.starttls()
    other.auth("wr0ng-pw")
    ok(server.ctl("user", "add", "carol", input="s3cret-new\n"))
    ok(server.ctl("user", "passwd", "carol", input="s3cret-new2\n"))
    path = server.path("users.csv")
    with open(path, "w", encoding="utf-8") as file:
        file.write("username,password\ndave,imp0rted\n")
    ok(server.ctl("user", "import", path))
    server.sql("INSERT INTO users (username, password) VALUES ('erin', 'plain-inserted')")
    wait_for(log, event="account", user="erin@example.org")
    verifiers = server.sql("SELECT password FROM users").split()
    client.close()
    server.stop()
    text = open(log, encoding="utf-8").read()
    assert "carol" in text and "dave" in text and "login-refused" in text
    for secret in [*secrets, *verifiers, *(verifier.split("$")[-1] for verifier in verifiers)]:
        assert secret not in text and not [line for line in server.lines if secret in line], secret


def test_the_file_is_private_and_appended_to(server, log):
    assert stat.S_IMODE(os.stat(log).st_mode) == 0o600
    server.stop()
    with open(log, "a", encoding="utf-8") as file:
        file.write('{"event":"mine"}\n')
    server.start()
    server.stop()
    events = [entry["event"] for entry in entries(log)]
    assert [event for event in events if event in ("start", "stop", "mine")] == ["start", "stop", "mine", "start", "stop"]


def test_sigusr1_opens_a_new_file_and_loses_nothing(server, log, connect):
    connect(server).login()
    wait_for(log, event="login")
    os.rename(log, log + ".1")
    server.signal(signal.SIGUSR1)
    until = time.monotonic() + 10
    while not os.path.exists(log):
        assert time.monotonic() < until, "no new file"
        time.sleep(0.01)
    assert stat.S_IMODE(os.stat(log).st_mode) == 0o600
    connect(server, "bob").login()
    wait_for(log, event="login", user="bob@example.org")
    assert not [entry for entry in entries(log + ".1") if entry.get("user", "").startswith("bob@") and entry["event"] == "login"]


def test_the_file_for_logrotate_turns_it(server, log, connect, tmp_path):
    if not shutil.which("logrotate") or os.geteuid() != 0:
        pytest.skip("needs logrotate, and root")
    connect(server).login()
    wait_for(log, event="login")
    with open(os.path.join(ROOT, "dist", "startalkd.logrotate"), encoding="utf-8") as file:
        text = file.read()
    for there, here in (("/var/lib/startalkd/audit.log", log), ("su startalkd startalkd", "su root root"),
                        ("pkill -USR1 -x -U startalkd startalkd || true", f"kill -USR1 {server.process.pid}")):
        assert text.count(there) == 1
        text = text.replace(there, here)
    (tmp_path / "turn").write_text(text)
    done = subprocess.run(["logrotate", "-f", "-s", tmp_path / "turned", tmp_path / "turn"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    connect(server, "bob").login()
    wait_for(log, event="login", user="bob@example.org")
    assert [entry["event"] for entry in entries(log + ".1") if entry["event"] in ("start", "login")] == ["start", "login"]


def test_sigusr1_without_the_module_does_nothing(make_server, connect):
    server = make_server()
    server.signal(signal.SIGUSR1)
    connect(server).login().ping()


def test_the_path_can_be_set_and_changed_by_a_reload(make_server, connect):
    server = make_server(plugins={"60-audit": "[audit]\npath = ../one.log\nsync = on\n"})
    connect(server).login()
    wait_for(server.path("one.log"), event="login")
    server.plugin("60-audit", "[audit]\npath = ../two.log\n")
    ok(server.ctl("reload"))
    connect(server, "bob").login()
    wait_for(server.path("two.log"), event="login", user="bob@example.org")
    server.plugin("60-audit", "[audit]\npath = ../no/three.log\n")
    done = server.ctl("reload")
    assert done.returncode == 1 and "No such file or directory" in done.stdout + done.stderr
    connect(server).login()
    wait_for(server.path("two.log"), event="login", user="alice@example.org")


def test_a_plan_and_a_check_leave_the_file_alone(server, log):
    server.stop()
    before = open(log, "rb").read()
    assert server.run("--plan").returncode == 0 and server.run("--check").returncode == 0
    assert open(log, "rb").read() == before


def test_names_that_are_no_text_and_long_ones_leave_whole_lines(server, log, connect):
    for name in ("a\"b\\c", "x" * 900, "ä" * 600, "tab\there", "line\nline"):
        client = connect(server)
        client.welcome()
        client.starttls()
        client.send_auth("pw", user=name)
        client.next()
    assert len(wait_for(log, count=5, event="login-refused")) >= 5


def test_a_full_disk_stops_nobody_and_is_told_of_afterwards(make_server, tmp_path, connect):
    try:
        disk = SmallDisk(str(tmp_path / "small"), "1m")
    except NoDisk as why:
        pytest.skip(str(why))
    if disk.inside:
        disk.close()
        pytest.skip("the server does not see a disk of a namespace")
    try:
        server = make_server(plugins={"60-audit": f"[audit]\npath = {disk.path('audit.log')}\n"})
        connect(server).login()
        wait_for(disk.path("audit.log"), event="login")
        disk.fill()
        for _ in range(40):
            connect(server).login().close()
        server.wait_log("audit.log: cannot be written: No space left on device")
        disk.empty()
        connect(server, "bob").login()
        until = time.monotonic() + 10
        while True:
            lines = open(disk.path("audit.log"), encoding="utf-8").read().splitlines()
            good = [json.loads(line) for line in lines if line.endswith("}") and line.startswith("{")]
            lost = [entry for entry in good if entry["event"] == "lost"]
            if lost:
                break
            assert time.monotonic() < until, lines[-3:]
            time.sleep(0.05)
        assert lost[0]["count"] > 0 and len(lines) - len(good) <= 1
        assert sum("cannot be written" in line for line in server.lines) == 1
        server.stop()
    finally:
        disk.close()
