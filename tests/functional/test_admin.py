# SPDX-License-Identifier: MIT
"""The admin socket and startalkctl: every command through the real tool against a real server."""
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

import pytest
from stk import wire
from stk.client import RESOURCE
from stk.server import program


def ok(done):
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def refused(done, *texts):
    assert done.returncode == 1 and done.stdout == "", done
    for text in texts:
        assert text in done.stderr, done
    return done.stderr


def lines(done):
    return [json.loads(line) for line in ok(done).splitlines()]


def wait_for(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.05)


class Raw:
    """A connection to the admin socket without the tool."""

    def __init__(self, path, timeout=10):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.file = self.sock.makefile("rb")

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else json.dumps(data).encode() + b"\n")

    def line(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def answer(self):
        """The lines of one answer, the last of them with ok."""
        found = []
        while not found or "ok" not in found[-1]:
            found.append(self.line())
            assert found[-1] is not None, found
        return found

    def ask(self, data):
        self.send(data)
        return self.answer()

    def close(self):
        self.file.close()
        self.sock.close()


@pytest.fixture
def raw():
    made = []

    def make(server, **kwargs):
        made.append(Raw(server.path("state", "admin.sock"), **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()


def end_of(client):
    """Code and reason of the StreamEnd that comes."""
    inner = client.expect(wire.STREAM_END).inner
    return inner.code, inner.reason


def refuse_login(server, connect, user, password, **kwargs):
    client = connect(server, user, **kwargs)
    client.welcome()
    client.starttls()
    assert client.auth(password).signal == wire.FAILURE


def logs_in(server, connect, user, password):
    client = connect(server, user)
    client.welcome()
    client.starttls()
    return client.auth(password).signal == wire.SUCCESS


# ---- notify ----

def test_notify_reaches_all_available_sessions_of_a_user_and_nobody_else(server, connect):
    one, two = connect(server).login(resource="V_P[PC]_1"), connect(server).login(resource="V_P[Mac]_2")
    away, bob = connect(server).login(resource="V_P[iOS]_3", available=False), connect(server, "bob").login()
    one.expect_notice(9)
    data = '{"noticeStr":["é\\"数"]}'
    assert ok(server.ctl("notify", "--category", "98", "--data", data, "Alice")) == "2 sessions got it\n"
    for client in (one, two):
        notice = client.expect_notice(98)
        assert (notice.sender, notice.to, notice.inner.body.value) == ("alice@example.org", client.jid, data)
    away.quiet()
    bob.quiet()


def test_notify_all_reaches_everybody_under_their_own_names(server, connect):
    clients = [connect(server).login(), connect(server, "bob").login()]
    assert ok(server.ctl("notify", "--all", "--category=99", "--data=x")) == "2 sessions got it\n"
    for client in clients:
        notice = client.expect_notice(99)
        assert (notice.sender, notice.to, notice.inner.body.value) == (client.bare, client.jid, "x")


def test_notify_of_category_100_may_have_no_data_and_a_full_jid(server, connect):
    one, two = connect(server).login(resource="V_P[PC]_1"), connect(server).login(resource="V_P[Mac]_2")
    one.expect_notice(9)
    assert lines(server.ctl("--json", "notify", "--category", "100", one.jid)) == [{"sessions": 1, "text": "1 session got it"}]
    assert one.expect_notice(100).inner.body.value == ""
    two.quiet()
    assert ok(server.ctl("notify", "--category", "100", "bob")) == "0 sessions got it\n"


def test_notify_takes_numbers_and_objects_from_the_socket(server, connect, raw):
    client = connect(server).login()
    assert raw(server).ask({"command": "notify", "category": 98, "user": "alice", "data": {"noticeStr": []}})[-1] == {"ok": True}
    assert client.expect_notice(98).inner.body.value == '{"noticeStr":[]}'


@pytest.mark.parametrize("args, text", [
    (("--category", "98"), "either a user or all"),
    (("--category", "98", "--all", "alice"), "either a user or all"),
    (("alice",), "a notice has a category"),
    (("--category", "many", "alice"), "a notice has a category"),
    (("--category", "-1", "alice"), "a notice has a category"),
    (("--category", "99999999999999999999", "alice"), "a notice has a category"),
    (("--category", "98", "carol"), "there is no user carol@example.org"),
    (("--category", "98", "alice@example.net"), "this server does not serve the domain example.net"),
    (("--category", "98", "a b"), "'a b' is neither the name of a user nor a JID"),
])
def test_a_notify_that_makes_no_sense_is_refused_with_the_reason(server, args, text):
    refused(server.ctl("notify", *args), text)


# ---- kick ----

def test_kick_ends_all_sessions_of_a_user_with_201(server, connect):
    one, two = connect(server).login(resource="V_P[PC]_1"), connect(server).login(resource="V_P[Mac]_2")
    bob = connect(server, "bob").login()
    assert ok(server.ctl("kick", "alice@EXAMPLE.org")) == "2 sessions of alice@EXAMPLE.org ended\n"
    assert end_of(one) == end_of(two) == (201, "kicked by an administrator")
    assert bob.ping().inner.value == "ping"


def test_kick_takes_a_code_a_reason_and_a_full_jid(server, connect):
    one, two = connect(server).login(resource="V_P[PC]_1"), connect(server).login(resource="V_P[Mac]_2")
    ok(server.ctl("kick", one.jid, "--code", "203", "--reason", "maintenance till five"))
    assert end_of(one) == (203, "maintenance till five")
    assert two.ping().inner.value == "ping"
    assert lines(server.ctl("kick", "bob", "--json")) == [{"sessions": 0, "text": "0 sessions of bob@example.org ended"}]


def test_a_kick_that_makes_no_sense_is_refused_with_the_reason(server):
    refused(server.ctl("kick"), "which user?")
    refused(server.ctl("kick", "carol"), "there is no user carol@example.org")
    refused(server.ctl("kick", "alice", "--code", "300"), "the code is a number from 100 to 199")
    refused(server.ctl("kick", "alice", "--reason", "x" * 513), "the reason is a text of 512 bytes")


# ---- sessions, status, help, stop ----

def test_sessions_are_a_table_with_columns_in_line(server, connect):
    one, two = connect(server).login(), connect(server, "bob").login(resource="手机", tls=False, available=False)
    one.status("away", "7")
    one.expect(wire.PRESENCE, where=lambda frame: frame.inner.value == "update_user_status")
    rows = ok(server.ctl("sessions")).splitlines()
    assert rows[0].split() == ["JID", "ADDRESS", "TLS", "AVAILABLE", "PRIORITY", "SHOW", "BOUND"]
    found = {row.split()[0]: row.split()[2:] for row in rows[1:]}
    assert found[one.jid][:4] == ["yes", "yes", "7", "away"]
    assert found[two.jid][:3] == ["no", "no", "0"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", found[two.jid][-1])
    at = rows[0].index("ADDRESS")
    assert [row for row in rows if row.startswith(one.jid)][0][at:].startswith("127.0.0.1:")


def test_sessions_of_a_user_as_json(server, connect):
    client = connect(server).login()
    connect(server, "bob").login()
    found = lines(server.ctl("--json", "sessions", "alice"))
    assert len(found) == 1
    bound = found[0].pop("bound")
    assert abs(bound / 1000 - time.time()) < 30
    assert found[0] == {"jid": client.jid, "address": "127.0.0.1:%d" % client.sock.getsockname()[1], "tls": True, "available": True,
                        "priority": 5, "show": ""}
    client.close()
    wait_for(lambda: ok(server.ctl("sessions", "alice")) == "no sessions\n")


def test_what_clients_call_themselves_does_not_steer_the_terminal(server, connect):
    connect(server).login(resource="a\u202eb", available=False)
    two = connect(server, "bob").login()
    two.status("\x9b31m", "5")
    two.expect(wire.PRESENCE, where=lambda frame: frame.inner.value == "update_user_status")
    shown = ok(server.ctl("sessions"))
    assert "/a\\u202eb " in shown and " \\x9b31m " in shown and "\u202e" not in shown and "\x9b" not in shown


def test_status_says_how_the_server_is(server, connect):
    connect(server).login(resource="1"), connect(server).login(resource="2"), connect(server, "bob").login()
    connect(server).welcome()
    status, = lines(server.ctl("--json", "status"))
    assert status["pid"] == server.process.pid or os.environ.get("STK_WRAPPER")
    assert (status["connections"], status["sessions"], status["users"]) == (4, 3, 2)
    assert status["listeners"] == [{"address": f"0.0.0.0:{server.port}", "tls": "optional"}] or \
        status["listeners"] == [{"address": f"127.0.0.1:{server.port}", "tls": "optional"}]
    assert [module["name"] for module in status["modules"]] == ["auth_sqlite", "bind", "presence", "archive", "message",
                                                                     "ping", "admin"]
    assert status["memory"] > 1000000 and 0 <= status["uptime"] < 60
    text = ok(server.ctl("status"))
    assert re.search(rf"^process +{status['pid']}, up \d+ s, [\d.]+ MiB$", text, re.M)
    assert re.search(r"^sessions +3 of 2 users$", text, re.M) and re.search(r"^auth_sqlite +0\.1 +\d+ +\d+ ", text, re.M)


def test_help_lists_what_the_server_has_and_works_without_one(make_server):
    server = make_server(start=False)
    offline = ok(server.ctl("help"))
    assert "kick USER [--code N]" in offline
    server.start()
    online = ok(server.ctl("help"))
    assert re.search(r"^kick USER \[--code N\] \[--reason TEXT\]  +Ends the sessions", online, re.M)
    names = {line["command"] for line in lines(server.ctl("help", "--json"))}
    assert {"help", "status", "sessions", "notify", "kick", "reload", "stop", "user", "doctor"} <= names


def test_stop_ends_the_server_cleanly_and_returns_when_it_has_stopped(server, connect):
    client = connect(server).login()
    assert ok(server.ctl("stop")) == "the server stops\n"
    assert end_of(client)[0] == 111
    assert server.process.wait(10) == 0
    assert "server: stopped" in "\n".join(server.lines)
    assert not os.path.exists(server.path("state", "admin.sock"))


# ---- reload ----

def test_reload_makes_changed_files_take_effect_and_tells_what_changed(server, connect):
    client = connect(server).login()
    server.plugin("40-ping", None)
    server.plugin("30-presence", "[presence]\nnavversion = 7")
    assert set(ok(server.ctl("reload", "--dry-run")).splitlines()) == {"module ping: would be removed", "module presence: would be changed"}
    assert client.ping().inner.definedKey == 80
    assert set(ok(server.ctl("reload")).splitlines()) == {"module ping: removed", "module presence: changed"}
    assert client.ping().inner.definedKey == 90
    assert "ping" not in [module["name"] for module in lines(server.ctl("--json", "status"))[0]["modules"]]


def test_a_reload_of_a_faulty_configuration_fails_with_file_and_line(server):
    server.plugin("40-ping", "[ping]\nno-such = 1")
    done = server.ctl("reload")
    assert done.returncode == 1 and "everything stays as it was: the configuration has faults" in done.stderr
    assert re.search(r"40-ping.conf:2: unknown key 'no-such' in \[ping\]", done.stdout)


def test_a_reload_moves_the_socket_and_leaves_connections_be(server, raw, tmp_path):
    link = raw(server)
    before, after = server.path("state", "admin.sock"), str(tmp_path / "moved.sock")
    server.plugin("50-admin", f"[admin]\nsocket = {after}\nidle-timeout = 1min")
    assert link.ask({"command": "reload"})[-1] == {"ok": True}
    assert not os.path.exists(before) and stat.S_IMODE(os.stat(after).st_mode) == 0o600
    assert "version" in ok(server.ctl("status"))
    (tmp_path / "file").write_text("precious")
    server.plugin("50-admin", f"[admin]\nsocket = {tmp_path}/file")
    answer = link.ask({"command": "reload"})
    assert answer[-1]["ok"] is False and "does not take its new options" in answer[-2]["text"]
    server.plugin("50-admin", f"[admin]\nsocket = {after}")
    assert "version" in ok(server.ctl("status")) and link.ask({"command": "status"})[-1] == {"ok": True}


def test_a_reload_that_takes_the_module_away_is_still_answered(server, raw, connect):
    fill_users(server, 5000)
    stuck = raw(server)
    stuck.send({"command": "user", "do": "list"})
    stuck.line()
    server.plugin("50-admin", None)
    link = raw(server)
    assert link.ask({"command": "reload"}) == [{"text": "module admin: removed"}, {"ok": True}]
    assert link.line() is None and not os.path.exists(server.path("state", "admin.sock"))
    assert b'"ok"' not in stuck.file.read()
    assert connect(server).login().ping().inner.value == "ping"
    server.plugin("50-admin", "[admin]")
    server.signal(signal.SIGHUP)
    wait_for(lambda: server.ctl("status").returncode == 0)


# ---- the tool ----

@pytest.mark.parametrize("args, text", [
    ((), "which command?"),
    (("--sockt", "x", "status"), "unrecognized option"),
    (("--socket", "/x", "--state-dir", "/y", "status"), "one is enough"),
    (("sessions", "alice", "bob"), "bob: one word too many"),
    (("status", "--Loud"), "not an option"),
    (("kick", "alice", "-c", "3"), "-c: not an option"),
    (("kick", "alice", "--code", "1", "--code", "2"), "code: given twice"),
    (("kick", "alice", "--user", "bob"), "user: given twice"),
    (("kick", "--command", "stop"), "command: not an option"),
    (("user", "add", "carol", "--password", "x"), "arguments can be read by others"),
    (("user", "add"), "which user?"),
    (("sessions", b"\xff"), "not UTF-8"),
])
def test_wrong_usage_ends_with_2_and_asks_nobody(tmp_path, args, text):
    done = subprocess.run([program("startalkctl"), *args], input=b"pw\n", capture_output=True, timeout=20, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == b"" and text in done.stderr.decode(), done


def test_help_of_one_command_version_and_usage_need_no_server():
    for args, text in ((("kick", "--help"), "startalkctl kick USER"), (("--help",), "Exit status: 0"), (("--version",), "startalkctl 0.")):
        assert text in ok(subprocess.run([program("startalkctl"), *args], capture_output=True, text=True, timeout=20))


def test_a_server_that_cannot_be_reached_is_told_with_the_path_and_a_hint(make_server, tmp_path):
    server = make_server(start=False)
    done = server.ctl("status")
    assert done.returncode == 3 and server.path("state", "admin.sock") in done.stderr and "is the server running" in done.stderr
    server.plugin("50-admin", None)
    done = server.ctl("status")
    assert done.returncode == 3 and "the module admin is not enabled" in done.stderr
    os.unlink(server.path("startalkd.conf"))
    done = server.ctl("status")
    assert done.returncode == 3 and "startalkd.conf: No such file or directory; which server?" in done.stderr
    (tmp_path / "empty.conf").write_text("[server]\n")
    done = subprocess.run([program("startalkctl"), "-c", str(tmp_path / "empty.conf"), "status"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 3 and "there is no state-dir in it" in done.stderr
    done = subprocess.run([program("startalkctl"), "--socket", "/" + "x" * 200, "status"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 3 and "File name too long" in done.stderr


def test_the_server_is_found_by_state_dir_by_socket_and_in_spite_of_faults_in_the_configuration(server):
    for args in (("--state-dir", server.path("state")), ("--socket", server.path("state", "admin.sock"))):
        assert "version" in ok(subprocess.run([program("startalkctl"), *args, "status"], capture_output=True, text=True, timeout=20))
    with open(server.path("startalkd.conf"), "a", encoding="utf-8") as file:
        file.write("\n[limits]\nno-such-key = 1\n")
    server.plugin("60-x", "[nosuchmodule")
    assert "version" in ok(server.ctl("status"))


def test_words_and_options_of_commands_it_does_not_know_are_sent_by_rule(tmp_path):
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    command = [program("startalkctl"), "--socket", path, "frob", "one", "two", "three", "--since", "2024", "--dry=a=b", "--all", "--", "--four"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        connection, _ = listener.accept()
        request = json.loads(connection.makefile().readline())
        connection.sendall(b'{"x":"\xc3\xa9"}\n{"text":"so"}\n{"ok":true}\n')
        assert process.communicate(timeout=20)[0] == '{"x":"é"}\nso\n' and process.returncode == 0
        connection.close()
    assert request == {"command": "frob", "do": "one", "name": "two", "args": ["one", "two", "three", "--four"], "since": "2024",
                       "dry": "a=b", "all": True}
    for text, status in ((b"", 3), (b'{"x":1}\n', 3), (b"rubbish\n", 3), (b'{"ok":false,"error":"no"}\n', 1)):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = listener.accept()
            connection.makefile().readline()
            connection.sendall(text)
            connection.close()
            assert process.communicate(timeout=20)[1] and process.returncode == status
    listener.close()


def test_an_unknown_command_is_told_with_those_that_there_are(server):
    refused(server.ctl("frob"), "there is no command 'frob'; this server has ", "kick", "doctor")
    refused(server.ctl("x" * 5000), "there is no command 'xxx")


def test_commands_of_other_modules_work_through_it(server, connect):
    alice, bob = connect(server).login(), connect(server, "bob").login()
    for text in ("one", "two é"):
        alice.receipt(alice.message("bob@example.org", text))
        bob.expect(wire.CHAT)
    assert re.search(r"^messages +2$", ok(server.ctl("archive", "status")), re.M)
    assert "deleted " in ok(server.ctl("archive", "vacuum"))
    assert [line["body"] for line in lines(server.ctl("archive", "export", "bob"))] == ["one", "two é"]
    refused(server.ctl("archive"), "status, vacuum or export")
    assert "archive status | vacuum | export USER" in ok(server.ctl("help"))


# ---- user ----

def test_user_add_makes_an_account_without_a_plain_password_in_the_file(server, connect):
    assert ok(server.ctl("user", "add", "Carol", input="s3cret pw\nmore\n")) == "Carol@example.org was added\n"
    assert server.sql("SELECT username, domain, enabled, substr(password, 1, 19) FROM users WHERE folded = 'carol'") == \
        "Carol|example.org|1|SCRAM-SHA-256$4096:"
    assert logs_in(server, connect, "carol", "s3cret pw")
    for name in ("startalk.db", "startalk.db-wal"):
        with open(server.path("state", name), "rb") as file:
            assert b"s3cret pw" not in file.read()
    assert "s3cret" not in "\n".join(server.lines)


def test_user_add_folds_names_beyond_ascii_and_takes_domains(make_server, connect):
    server = make_server(domain="example.org, example.net", users=None)
    ok(server.ctl("user", "add", "ÄRGER@Example.NET", input="pw\n"))
    refused(server.ctl("user", "add", "ärger@example.net", input="pw\n"), "there is a user ärger@example.net already")
    ok(server.ctl("user", "add", "ärger", input="other\n"))
    for domain, password in (("example.net", "pw"), ("example.org", "other")):
        client = connect(server, "Ärger", domain=domain)
        client.welcome()
        client.starttls()
        assert client.auth(password).signal == wire.SUCCESS


@pytest.mark.parametrize("name, text", [
    ("alice", "there is a user alice@example.org already"),
    ("ALICE", "there is a user ALICE@example.org already"),
    ("x@example.com", "does not serve that domain"),
    ("x@", "is no domain"),
    ("@example.org", "a name is wanted"),
    ("", "a name is wanted"),
    ("a/b", "a name has no '@', '/', space or control character"),
    ("a b", "a name has no '@', '/', space or control character"),
    ("a@b@example.org", "a name has no '@', '/', space or control character"),
    ("a\nb", "a name has no '@', '/', space or control character"),
    ("x" * 1024, "a name has 1023 bytes at most"),
])
def test_user_add_refuses_bad_names_with_the_reason(server, name, text):
    refused(server.ctl("user", "add", name, input="pw\n"), text)
    assert server.sql("SELECT count(*) FROM users") == "2"


def test_user_passwd_changes_the_password_and_ends_older_sessions(server, connect):
    client = connect(server).login()
    bob = connect(server, "bob").login()
    assert "alice@example.org has a new password" in ok(server.ctl("user", "passwd", "alice", input="n3w\n"))
    assert end_of(client) == (201, "account changed: password")
    refuse_login(server, connect, "alice", server.passwords["alice"])
    assert logs_in(server, connect, "alice", "n3w")
    assert bob.ping().inner.value == "ping"
    refused(server.ctl("user", "passwd", "carol", input="n3w\n"), "there is no user carol@example.org")


def test_user_passwd_replaces_a_salted_hash_for_good(server, connect):
    server.sql("UPDATE users SET password = 'CRY:0123456789abcdef0123456789abcdef', pwd_salt = 'salt' WHERE username = 'bob'")
    ok(server.ctl("user", "passwd", "bob", input="n3w\r\n"))
    assert server.sql("SELECT pwd_salt IS NULL FROM users WHERE username = 'bob'") == "1"
    assert logs_in(server, connect, "bob", "n3w")


def test_user_disable_and_enable_and_delete_take_effect_at_once(server, connect):
    client = connect(server).login()
    assert "alice@example.org is disabled" in ok(server.ctl("user", "disable", "alice"))
    assert end_of(client) == (201, "account changed: disabled")
    refuse_login(server, connect, "alice", server.passwords["alice"])
    assert ok(server.ctl("user", "disable", "alice")) == "alice@example.org was disabled already\n"
    assert ok(server.ctl("user", "enable", "alice")) == "alice@example.org is enabled\n"
    client = connect(server).login()
    assert "alice@example.org was deleted" in ok(server.ctl("user", "delete", "alice"))
    assert end_of(client) == (201, "account changed: deleted")
    assert server.sql("SELECT username FROM users") == "bob"
    for verb in ("disable", "enable", "delete"):
        refused(server.ctl("user", verb, "alice"), "there is no user alice@example.org")


def test_user_list_shows_all_in_the_order_of_names(server, connect):
    connect(server, "bob").login()
    ok(server.ctl("user", "add", "aaron", input="x\n"))
    server.sql("INSERT INTO users (username, enabled) VALUES ('zoe', 0)")
    rows = [row.split() for row in ok(server.ctl("user", "list")).splitlines()]
    assert rows[0] == ["USER", "ENABLED", "PASSWORD", "SESSIONS"]
    assert rows[1] == ["aaron@example.org", "yes", "SCRAM-SHA-256", "0"] and rows[4] == ["zoe@example.org", "no", "none", "0"]
    assert [row[0] for row in rows[1:]] == ["aaron@example.org", "alice@example.org", "bob@example.org", "zoe@example.org"]
    assert lines(server.ctl("--json", "user", "list"))[2]["sessions"] == 1


def test_user_refuses_what_it_does_not_know_and_bad_passwords(server, raw):
    refused(server.ctl("user", "promote", "alice"), "user can add, passwd, enable, disable, delete, list and import")
    refused(server.ctl("user"), "user can add")
    for text, why in (("\n", "is empty"), ("", "is empty"), ("x" * 1025, "longer than 1024"), ("a\0b\n", "has a NUL")):
        done = server.ctl("user", "passwd", "alice", input=text)
        assert done.returncode == 2 and why in done.stderr, done
    link = raw(server)
    for password, why in ((None, "a password is wanted"), ("", "empty"), ("x" * 1025, "1024"), (7, "a password is wanted")):
        assert why in link.ask({"command": "user", "do": "passwd", "name": "alice", "password": password})[-1]["error"]


def type_password(command, *texts):
    """Runs COMMAND on a terminal and types at each prompt. The exit status and all that the terminal showed."""
    pid, master = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background
        os.execv(command[0], command)
    shown, typed = b"", 0
    while True:
        try:
            ready, _, _ = select.select([master], [], [], 20)
            assert ready, shown
            data = os.read(master, 4096)
        except OSError:
            data = b""
        if not data:
            break
        shown += data
        while typed < len(texts) and shown.count(b": ") > typed:
            os.write(master, texts[typed])
            typed += 1
    os.close(master)
    status = os.waitpid(pid, 0)[1]
    return status, shown.decode()


def test_on_a_terminal_the_password_is_asked_for_twice_without_echo(server, connect):
    command = [program("startalkctl"), "-c", server.path("startalkd.conf"), "user", "add", "carol"]
    status, shown = type_password(command, b"hidden pw\n", b"other pw\n")
    assert os.WEXITSTATUS(status) == 2 and "the passwords differ" in shown
    status, shown = type_password(command, b"hidden pw\n", b"hidden pw\n")
    assert (os.WIFEXITED(status), os.WEXITSTATUS(status)) == (True, 0) and "carol@example.org was added" in shown
    assert "New password for carol:" in shown and "The same again for carol:" in shown and "hidden" not in shown
    assert logs_in(server, connect, "carol", "hidden pw")
    status, shown = type_password(command, b"\x03")
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT


# ---- doctor ----

def examine(server, name):
    """Finding and text of each line, and the verdict."""
    found = lines(server.ctl("--json", "doctor", name))
    assert found[-1]["check"] == "verdict"
    return [(line["finding"], line["text"]) for line in found[:-1]], found[-1]


def has(findings, finding, text):
    assert any(kind == finding and text in words for kind, words in findings), findings


def test_doctor_finds_nothing_wrong_with_a_user_who_can_log_in(server, connect):
    client = connect(server).login()
    wait_for(lambda: server.sql("SELECT password FROM users WHERE username = 'alice'").startswith("SCRAM-"))
    findings, verdict = examine(server, "ALICE")
    assert verdict == {"check": "verdict", "can_log_in": True, "text": "alice@example.org can log in with the right password"}
    has(findings, "ok", "there is a user alice@example.org; names are compared without regard to case")
    has(findings, "ok", "the user is enabled")
    has(findings, "ok", "as a SCRAM-SHA-256 verifier")
    has(findings, "ok", "no failed tries")
    has(findings, "note", f":{server.port} offers TLS; from a client without it only passwords encrypted for the server's RSA key are taken")
    has(findings, "ok", f"from 127.0.0.1:{client.sock.getsockname()[1]} with TLS: {RESOURCE}")
    assert not [kind for kind, _ in findings if kind == "bad"]
    text = ok(server.ctl("doctor", "alice"))
    assert text.splitlines()[0] == "ok       there is a user alice@example.org"
    assert text.endswith("\n\nalice@example.org can log in with the right password\n")


def test_doctor_tells_near_names_and_other_domains_when_there_is_no_such_user(make_server):
    server = make_server(domain="example.org, example.net", users=None)
    for name in ("carol", "carla", "carlo@example.net", "caorl@example.net", "zed"):
        ok(server.ctl("user", "add", name, input="x\n"))
    findings, verdict = examine(server, "caorl")
    assert not verdict["can_log_in"] and verdict["text"] == "caorl@example.org cannot log in: there is no user caorl@example.org"
    assert [text for kind, text in findings if "there is one called" in text] == ["there is one called carol", "there is one called carla"]
    has(findings, "note", "there is one of that name in the domain example.net")
    refused(server.ctl("doctor", "a b"), "a name has no '@', '/', space")
    refused(server.ctl("doctor", "x@example.com"), "does not serve that domain")


def test_doctor_sees_that_a_user_is_disabled_and_has_no_password(server, connect):
    server.sql("UPDATE users SET enabled = 0 WHERE username = 'alice'; UPDATE users SET password = '' WHERE username = 'bob'")
    findings, verdict = examine(server, "alice")
    has(findings, "bad", "the user is disabled")
    assert verdict["text"] == "alice@example.org cannot log in: the user is disabled"
    findings, verdict = examine(server, "bob")
    has(findings, "bad", "the user has no password")
    assert verdict["text"] == "bob@example.org cannot log in: the user has no password"
    text = ok(server.ctl("doctor", "bob"))
    assert "PROBLEM  the user has no password\n" in text


@pytest.mark.parametrize("stored, looks", [
    ("SCRAM-SHA-256$4096:broken", "a SCRAM-SHA-256 verifier"),
    ("CRY:0123", "a CRY: hash"),
    ("$9$salt$0123456789abcdef", "a crypt(3) string"),
    ("{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g0123456789", "an LDAP hash"),
])
def test_doctor_sees_a_password_of_the_wrong_kind_also_after_it_was_replaced(server, connect, stored, looks):
    server.sql("UPDATE users SET password = ? WHERE username = 'alice'", stored)
    server.wait_log(f"users: alice: the password looks like {re.escape(looks)} but is none to the letter: taken as a plain password")
    assert server.sql("SELECT password FROM users WHERE username = 'alice'").startswith("SCRAM-SHA-256$4096:")
    findings, verdict = examine(server, "alice")
    has(findings, "bad", f"looks like {looks} but is none to the letter")
    assert not verdict["can_log_in"]
    ok(server.ctl("user", "passwd", "alice", input="x\n"))
    wait_for(lambda: examine(server, "alice")[1]["can_log_in"])


def test_doctor_knows_the_other_kinds_of_passwords(server):
    crypted = subprocess.run(["mkpasswd", "-m", "sha512crypt", "pw"], capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    server.sql("UPDATE users SET password = ? WHERE username = 'alice'", crypted)
    has(examine(server, "alice")[0], "ok", "as a crypt(3) string")
    server.sql("UPDATE users SET password = 'CRY:0123456789abcdef0123456789abcdef', pwd_salt = 's' WHERE username = 'bob'")
    has(examine(server, "bob")[0], "ok", "as a CRY: hash with salt")


def test_doctor_tells_refused_logins_and_the_limit_on_guessing(make_server, connect):
    server = make_server(login="user-tries = 3")
    for _ in range(2):
        refuse_login(server, connect, "bob", "wrong")
    findings, verdict = examine(server, "bob")
    has(findings, "note", "2 failed tries of 3 that are allowed within a minute")
    has(findings, "note", "with TLS: wrong password, 2 times")
    assert verdict["can_log_in"] and "; the last refusal was at " in verdict["text"] and verdict["text"].endswith(": wrong password")
    refuse_login(server, connect, "BOB", "wrong")
    refuse_login(server, connect, "bob", server.passwords["bob"])
    findings, verdict = examine(server, "bob")
    has(findings, "note", "with TLS: too many failed tries lately")
    has(findings, "note", "with TLS: wrong password, 3 times")
    assert re.search(r"cannot log in: too many failed tries: logins of this user are refused for another \d\d s", verdict["text"])
    assert examine(server, "alice")[1]["text"] == "alice@example.org can log in with the right password"


def test_doctor_tells_that_an_address_is_refused(make_server, connect):
    server = make_server(login="address-tries = 3")
    for user in ("bob", "x", "y"):
        refuse_login(server, connect, user, "wrong", source="127.0.0.9")
    findings, verdict = examine(server, "bob")
    assert any(re.search(r"logins from 127\.0\.0\.9:\d+, whoever it is, are refused for another \d\d s", text) for _, text in findings)
    assert verdict["can_log_in"]


def test_doctor_tells_what_is_missed_without_tls(make_server, connect):
    server = make_server(listen="tls = required")
    client = connect(server)
    client.welcome()
    client.send_auth(server.passwords["alice"])
    client.expect_end(222)
    findings, verdict = examine(server, "alice")
    has(findings, "note", f":{server.port} requires TLS: a client that does not ask for it is refused")
    has(findings, "note", "without TLS: TLS is required")
    assert verdict["text"].endswith(": TLS is required")


def test_doctor_tells_that_a_plain_password_outside_tls_was_refused(make_server, connect):
    server = make_server(listen="tls = off")
    client = connect(server)
    client.welcome()
    assert client.auth(server.passwords["alice"]).signal == wire.FAILURE
    findings, _ = examine(server, "alice")
    has(findings, "note", "has no TLS: only passwords encrypted for the server's RSA key are taken (plain-without-tls = off)")
    has(findings, "note", "without TLS: plain password outside TLS")


# ---- the socket ----

def test_the_socket_is_the_owner_s_alone_and_a_stale_one_is_replaced(server, raw):
    path = server.path("state", "admin.sock")
    mode = os.stat(path).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    server.process.kill()
    server.process.wait()
    assert os.path.exists(path)
    assert server.ctl("status").returncode == 3
    server.start()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert "version" in ok(server.ctl("status"))


def test_what_is_no_socket_or_in_use_is_left_alone(make_server, tmp_path):
    path = tmp_path / "x"
    path.write_text("precious")
    plugins = {"50-admin": f"[admin]\nsocket = {path}"}
    done = make_server(start=False, plugins=plugins).run()
    assert done.returncode == 1 and f"socket: {path}: something that is no socket is there already" in done.stderr
    assert path.read_text() == "precious"
    path.unlink()
    first = make_server(plugins=plugins)
    done = make_server(start=False, plugins=plugins).run()
    assert done.returncode == 1 and f"socket: {path}: in use by another process" in done.stderr
    assert "version" in ok(first.ctl("status"))


def test_a_path_that_is_too_long_for_a_socket_is_told(make_server):
    path = "/tmp/" + "x" * 103
    server = make_server(start=False, plugins={"50-admin": f"[admin]\nsocket = {path}"})
    for done in (server.run("--check"), server.run()):
        assert done.returncode == 1 and "the path of a socket may have 107 bytes, this one has 108" in done.stderr
    server = make_server(start=False, server="workers = 1", plugins={"50-admin": "[admin]"})
    with open(server.path("startalkd.conf"), encoding="utf-8") as file:
        text = file.read().replace("state-dir = state", "state-dir = " + "s" * 100)
    with open(server.path("startalkd.conf"), "w", encoding="utf-8") as file:
        file.write(text)
    done = server.run()
    assert done.returncode == 1 and "set socket in [admin] to a shorter one" in done.stderr


def test_plan_leaves_the_socket_of_a_running_server_alone(server):
    done = server.run("--plan")
    assert done.returncode == 0 and "command:kick" in done.stdout
    assert "version" in ok(server.ctl("status"))


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user, with setpriv")
def test_another_user_is_refused_even_when_the_file_lets_him(make_server):
    folder = tempfile.mkdtemp(prefix="stk")
    try:
        server = make_server(plugins={"50-admin": f"[admin]\nsocket = {folder}/admin.sock"})
        os.chmod(folder, 0o755)
        script = ("import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(%r); print(s.makefile().read())"
                  % f"{folder}/admin.sock")
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd="/")
        assert "PermissionError" in done.stderr, done
        os.chmod(f"{folder}/admin.sock", 0o666)
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd="/")
        assert "only root and the user that the server runs as may give commands" in done.stdout, done
        server.wait_log(r"admin: socket: uid 65534, pid \d+: refused")
        assert "version" in ok(server.ctl("status"))
    finally:
        shutil.rmtree(folder)


# ---- lines ----

@pytest.mark.parametrize("line", [
    b"garbage", b"{", b"[]", b"{}", b'{"command":7}', b'{"command":"status","command":"stop"}', b"\x00", b'{"command":"st\x00atus"}',
    b"\xff\xfe", b'{"command":"a\\u0000b"}', b"[" * 5000, b'"status"', b'{"command":""}', b'{"command":"status"} {"command":"stop"}',
])
def test_garbage_gets_an_error_and_the_connection_goes_on(server, raw, line):
    link = raw(server)
    answer = link.ask(line + b"\n")
    assert len(answer) == 1 and answer[0]["ok"] is False and answer[0]["error"]
    assert link.ask({"command": "status"})[-1] == {"ok": True}


def test_half_lines_are_waited_for_and_the_last_needs_no_end(server, raw):
    link = raw(server)
    for byte in b'{"command":"status"}\n\n':
        link.send(bytes([byte]))
    assert link.answer()[-1] == {"ok": True}
    link.send(b'{"comm')
    assert "version" in ok(server.ctl("status"))
    link.send(b'and":"status"}')
    link.sock.shutdown(socket.SHUT_WR)
    assert link.answer()[-1] == {"ok": True}
    assert link.line() is None


def test_a_half_line_that_goes_no_further_is_closed_in_time(make_server, raw):
    server = make_server(plugins={"50-admin": "[admin]\nidle-timeout = 300ms"})
    half, silent = raw(server), raw(server)
    half.send(b'{"command":"st')
    assert half.line() is None and silent.line() is None


def test_a_line_has_1_mib_and_not_more(server, raw):
    link = raw(server)
    request = b'{"command":"status","x":"' + b"y" * (1024 * 1024 - 27) + b'"}'
    assert len(request) == 1024 * 1024
    assert link.ask(request + b"\n")[-1] == {"ok": True}
    link.send(b"{")
    link.sock.setblocking(True)
    try:
        link.send(b"x" * (4 * 1024 * 1024))
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert link.line() == {"ok": False, "error": "a request may have 1 MiB"}
    assert "version" in ok(server.ctl("status"))


def test_sixteen_connections_and_not_more(server, raw):
    links = [raw(server) for _ in range(16)]
    for link in links:
        assert link.ask({"command": "status"})[-1] == {"ok": True}
    extra = raw(server)
    assert "too many connections" in extra.line()["error"] and extra.line() is None
    assert "too many connections" in refused(server.ctl("status"))
    links[3].close()
    wait_for(lambda: server.ctl("status").returncode == 0)


def test_requests_in_one_go_are_answered_in_order_however_slow_the_reader(server, raw):
    link = raw(server)
    request = b'{"command":"help"}\n{"command":"kick","user":"nobody%d","x":"' + b"y" * 800 + b'"}\n'
    count, sent = 1000, 0
    data = b"".join(request % i for i in range(count))
    link.sock.setblocking(False)
    until = time.monotonic() + 1
    while sent < len(data) and time.monotonic() < until:  # nobody reads, so the server stops to do so, too
        try:
            sent += link.sock.send(data[sent:])
        except BlockingIOError:
            time.sleep(0.02)
    assert sent < len(data)
    assert "version" in ok(server.ctl("status"))
    link.sock.settimeout(20)
    got = b""
    while got.count(b'"ok"') < 2 * count:
        if sent < len(data):
            link.sock.setblocking(False)
            try:
                sent += link.sock.send(data[sent:])
            except BlockingIOError:
                pass
            link.sock.settimeout(20)
        got += link.sock.recv(65536)
    errors = [json.loads(line)["error"] for line in got.splitlines() if b'"ok":false' in line]
    assert errors == [f"there is no user nobody{i}@example.org" for i in range(count)]


def fill_users(server, count):
    server.sql(f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
               "INSERT INTO users (username) SELECT printf('u%06d', i) || hex(zeroblob(150)) FROM n")


def test_a_reader_that_stops_reading_gets_the_rest_later(server, raw):
    fill_users(server, 5000)
    link = raw(server)
    link.send({"command": "user", "do": "list"})
    first = link.line()
    assert "version" in ok(server.ctl("status"))  # nobody else waits
    rest = link.answer()
    names = [line["user"] for line in [first] + rest[:-1]]
    assert rest[-1] == {"ok": True} and len(names) == 5002 and names == sorted(names)


def test_many_sessions_are_told_and_reached_whoever_is_slow(make_server, connect, raw):
    users = {f"user{i}": f"password {i}" for i in range(45)}
    server = make_server(users=users, login="address-tries = 0")
    clients = [connect(server, user).login(tls=False, resource="x" * 1000 + str(i)) for user in users for i in range(10)]
    slow, gone = raw(server), raw(server)
    for link in (slow, gone):
        link.send({"command": "sessions"})
        link.line()
    assert lines(server.ctl("--json", "notify", "--all", "--category", "98", "--data", "x"))[0]["sessions"] == len(clients)
    for client in clients:
        assert client.expect_notice(98).to == client.jid
    clients[-1].close()  # one that is still to be told
    wait_for(lambda: lines(server.ctl("--json", "status"))[0]["sessions"] == len(clients) - 1)
    gone.close()
    rest = slow.answer()
    assert rest[-1] == {"ok": True}
    told = [line["jid"] for line in rest[:-1]]
    assert len(told) == len(set(told)) and len(clients) - 2 <= len(told) + 1 <= len(clients)


def test_a_reader_that_stops_for_good_or_goes_away_is_let_go(make_server, raw):
    server = make_server(plugins={"50-admin": "[admin]\nidle-timeout = 400ms"})
    fill_users(server, 5000)
    gone, stuck = raw(server), raw(server)
    for link in (gone, stuck):
        link.send({"command": "user", "do": "list"})
        link.line()
    gone.close()
    time.sleep(1.2)
    got = stuck.file.read()
    assert b'"ok"' not in got  # it was cut
    assert "version" in ok(server.ctl("status"))


def test_a_server_stops_while_a_reader_is_stuck(server, raw):
    fill_users(server, 5000)
    link = raw(server)
    link.send({"command": "user", "do": "list"})
    link.line()
    ok(server.ctl("stop"))
    assert server.process.wait(10) == 0


def test_requests_are_logged_with_who_gave_them_and_without_secrets(server, raw):
    link = raw(server)
    link.ask({"command": "user", "do": "add", "name": "carol", "password": "s3cret", "x": "s3cret"})
    line = server.wait_log(r"admin: command: user add carol \(uid \d+, pid \d+\)")
    assert f"(uid {os.geteuid()}, pid {os.getpid()})" in line
    assert "s3cret" not in "\n".join(server.lines)
