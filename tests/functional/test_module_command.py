# SPDX-License-Identifier: MIT
"""startalkctl module: enabling and disabling modules of a real server, and what is told of them."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest
from stk import plugin
from stk.server import BUILD, program
from stk.wire import ROOT
from test_refusals import is_error


def ok(done):
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def refused(done, *texts, status=1):
    assert done.returncode == status, done
    for text in texts:
        assert text in done.stderr, done
    return done.stderr


def files(server):
    return sorted(os.listdir(server.path("plugins.d")))


def read(server, name):
    with open(server.path("plugins.d", name), encoding="utf-8") as file:
        return file.read()


def rows(server):
    return {row["name"]: row for row in map(json.loads, ok(server.ctl("--json", "module", "list")).splitlines())}


def test_disable_keeps_the_file_and_enable_takes_it_back(server, connect):
    client = connect(server).login()
    server.plugin("40-ping", "; mine\n[ping]\n")
    out = ok(server.ctl("module", "disable", "ping"))
    assert "module ping: removed" in out and "40-ping.conf.disabled" in out
    assert "40-ping.conf" not in files(server) and is_error(client.ping(), "503")
    out = ok(server.ctl("module", "enable", "ping"))
    assert "module ping: added" in out and "module ping is enabled by" in out
    assert read(server, "40-ping.conf") == "; mine\n[ping]\n" and "40-ping.conf.disabled" not in files(server)
    assert client.ping().inner.value == "ping"


def test_what_is_done_already_is_said_and_is_no_error(server):
    assert re.search(r"module ping is enabled already, at .*/40-ping\.conf:\d+", ok(server.ctl("module", "enable", "ping")))
    ok(server.ctl("module", "disable", "ping"))
    assert "module ping is not enabled" in ok(server.ctl("module", "disable", "ping"))
    assert "module nosuch is not enabled" in ok(server.ctl("module", "disable", "nosuch"))


def test_options_on_the_command_line_are_written_and_take_effect(server):
    server.plugin("20-bind", None)
    server.plugin("90-mine", "[bind]\n; sessions-per-user = 10\none-per-platform = off ; as ever\n")
    ok(server.ctl("module", "disable", "bind"))
    ok(server.ctl("module", "enable", "bind", "sessions-per-user=3", "one-per-platform=on"))
    assert read(server, "90-mine.conf") == "[bind]\nsessions-per-user = 3\none-per-platform = on\n"
    info = json.loads(ok(server.ctl("module", "info", "bind", "--json")))
    option = next(one for one in info["options"] if one["name"] == "sessions-per-user")
    assert (option["value"], option["default"]) == ("3", "10") and option["set"].endswith("90-mine.conf:2")
    done = server.ctl("module", "enable", "bind", "sessions-per-user=4")
    refused(done, "enabled already, at", "set its options there")


def test_without_a_template_the_file_has_all_options_commented_out(make_server):
    server = make_server(plugins={"20-bind": None, "30-presence": None})
    ok(server.ctl("module", "enable", "bind", "sessions-per-user=2"))
    text = read(server, "bind.conf")
    assert text.startswith("[bind]\n") and "\nsessions-per-user = 2\n" in text and "\n; one-per-platform = off\n" in text
    ok(server.ctl("module", "enable", "presence"))
    assert "; navversion = 10000" in read(server, "presence.conf")
    assert not [name for name in files(server) if name.startswith(".")]


def test_the_installed_template_gives_the_place_in_the_order(make_server, tmp_path):
    shutil.copytree(os.path.join(ROOT, "plugins.d"), tmp_path / "share" / "startalkd" / "plugins.d")
    for folder, name in (("bin", "startalkctl"), ("sbin", "startalkd")):
        (tmp_path / folder).mkdir()
        shutil.copy(program(name), tmp_path / folder / name)
    server = make_server(plugins={"40-ping": None, "20-bind": None}, server=plugin.modules_dir(tmp_path / "modules"))
    for words in (["ping"], ["bind", "sessions-per-user=4"]):
        ok(subprocess.run([tmp_path / "bin" / "startalkctl", "-c", server.path("startalkd.conf"), "module", "enable", *words],
                          capture_output=True, text=True, timeout=60))
    with open(os.path.join(ROOT, "plugins.d", "40-ping.conf"), encoding="utf-8") as file:
        assert read(server, "40-ping.conf") == file.read()
    assert "\nsessions-per-user = 4\n" in read(server, "20-bind.conf")


def test_what_the_server_refuses_is_taken_away_and_told(server, connect):
    client = connect(server).login()
    ok(server.ctl("module", "disable", "ping"))
    before = files(server)
    refused(server.ctl("module", "enable", "ping", "speed=7"), "unknown key 'speed' in [ping]", "is taken away again")
    refused(server.ctl("module", "enable", "nosuch"), "there is no nosuch.so")
    assert files(server) == before and "speed" not in read(server, "40-ping.conf.disabled")
    assert is_error(client.ping(), "503")
    ok(server.ctl("module", "enable", "ping"))


def test_a_module_that_cannot_be_loaded_is_told_with_its_own_reason(make_server, tmp_path):
    server = make_server(server=plugin.modules_dir(tmp_path / "modules", bad=["twice_handler"]))
    refused(server.ctl("module", "enable", "twice_handler"), "iq type get xmlns urn:xmpp:ping belongs to module ping already; disable one of them",
            "everything stays as it was", "is taken away again")
    assert "twice_handler.conf" not in files(server)
    ok(server.ctl("module", "disable", "ping"))
    ok(server.ctl("module", "enable", "twice_handler"))
    refused(server.ctl("module", "enable", "ping"), "belongs to module twice_handler already")
    assert "40-ping.conf.disabled" in files(server) and "40-ping.conf" not in files(server)


def test_what_others_need_cannot_be_disabled(server, connect):
    before = files(server)
    refused(server.ctl("module", "disable", "auth_sqlite"), "no module would offer a SASL mechanism", "module auth_sqlite is enabled as before")
    assert files(server) == before
    assert connect(server).login()


def test_needs_are_minded(make_server, tmp_path):
    server = make_server(server=plugin.modules_dir(tmp_path / "modules", bad=["needs_ping"]))
    ok(server.ctl("module", "enable", "needs_ping"))
    refused(server.ctl("module", "disable", "ping"), "module 'needs_ping' needs module 'ping'", "stays: module ping is enabled as before")
    assert "ping" in rows(server) and rows(server)["ping"]["state"] == "loaded"


def test_a_section_beside_others_is_left_to_the_operator(make_server):
    server = make_server(plugins={"40-ping": None, "20-bind": "[bind]\n[ping]\n"})
    refused(server.ctl("module", "disable", "ping"), "20-bind.conf:2", "take the section out by hand")
    other = make_server(conf="[ping]", plugins={"40-ping": None})
    assert re.search(r"\[ping\] stands at .*startalkd\.conf:\d+", refused(other.ctl("module", "disable", "ping"), "by hand"))


def test_earlier_disabled_files_are_kept(server):
    for text in ("; one\n[ping]\n", "; two\n[ping]\n"):
        server.plugin("40-ping", text)
        shutil.copy(server.path("plugins.d", "40-ping.conf"), server.path("plugins.d", "copy"))
        ok(server.ctl("module", "disable", "ping"))
        os.rename(server.path("plugins.d", "copy"), server.path("plugins.d", "40-ping.conf"))
    assert read(server, "40-ping.conf.disabled") == "; one\n[ping]\n"
    assert read(server, "40-ping.conf.disabled.1") == "; two\n[ping]\n"


def test_without_a_server_the_file_is_checked_and_waits(make_server, connect):
    server = make_server(start=False, plugins={"40-ping": None})
    refused(server.ctl("module", "enable", "ping", "speed=7"), "unknown key 'speed'", "is taken away again")
    assert "ping.conf" not in files(server)
    assert "takes effect at the next start" in ok(server.ctl("module", "enable", "ping"))
    assert rows(server)["ping"]["state"] == "enabled"
    assert "takes effect at the next start" in ok(server.ctl("module", "disable", "ping"))
    ok(server.ctl("module", "enable", "ping"))
    server.start()
    assert connect(server).login().ping().inner.value == "ping"


def test_a_run_that_was_killed_before_the_reload_is_made_good_by_the_next(server, connect):
    """What it leaves behind is a whole file that the server has not read yet."""
    client = connect(server).login()
    ok(server.ctl("module", "disable", "ping"))
    server.plugin("40-ping", "[ping]\n")
    assert rows(server)["ping"]["state"] == "enabled, not loaded"
    assert "module ping: added" in ok(server.ctl("module", "enable", "ping"))
    assert client.ping().inner.value == "ping"
    os.rename(server.path("plugins.d", "40-ping.conf"), server.path("plugins.d", "40-ping.conf.disabled"))
    assert rows(server)["ping"]["state"] == "loaded until the next reload"
    assert "module ping: removed" in ok(server.ctl("module", "disable", "ping"))
    assert is_error(client.ping(), "503")
    server.plugin("40-ping", "[ping]\nspeed = 7\n")
    refused(server.ctl("module", "enable", "ping"), "unknown key 'speed'", "was there before and stays as it is")
    ok(server.ctl("module", "disable", "ping"))


def test_a_temporary_file_that_was_left_behind_does_no_harm(make_server):
    server = make_server(plugins={"40-ping": None})
    with open(server.path("plugins.d", ".ping.conf.new"), "w", encoding="utf-8") as file:
        file.write("[ping\nhalf")
    ok(server.ctl("module", "enable", "ping"))
    assert ".ping.conf.new" not in files(server)


class Dying:
    """In the place of the server: answers what is loaded, and is gone when it is told to reload."""

    def __init__(self, server):
        self.listener = socket.socket(socket.AF_UNIX)
        os.makedirs(server.path("state"), exist_ok=True)
        self.listener.bind(server.path("state", "admin.sock"))
        self.listener.listen(4)
        self.config = server.path("startalkd.conf")
        self.seen = []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        link, _ = self.listener.accept()
        for line in link.makefile():
            request = json.loads(line)
            self.seen.append(request)
            if request["command"] == "reload":
                break
            link.sendall((json.dumps({"config": self.config, "abi": "1.0"}) + "\n" + '{"ok":true}\n').encode())
        link.shutdown(socket.SHUT_RDWR)
        link.close()
        self.listener.close()


def test_a_server_that_dies_of_a_module_does_not_find_it_at_its_next_start(make_server):
    server = make_server(start=False, plugins={"40-ping": None, "50-admin": None})
    server.plugin("50-admin", f"[admin]\nsocket = {server.path('state', 'admin.sock')}\n")
    dying = Dying(server)
    refused(server.ctl("module", "enable", "ping"), "the server is gone before it has answered", "is taken away again", status=3)
    dying.thread.join(10)
    assert dying.seen[-1] == {"command": "reload"} and "ping.conf" not in files(server)


def test_many_at_once_do_not_get_into_each_others_way(server, connect):
    client = connect(server).login()
    runs = []
    for i in range(12):
        words = ("enable" if i % 2 else "disable", ("ping", "message", "archive")[i % 3])
        runs.append(subprocess.Popen([program("startalkctl"), "-c", server.path("startalkd.conf"), "module", *words],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, (run.args, out, err)
    for name in ("ping", "message", "archive"):
        ok(server.ctl("module", "enable", name))
    assert [name for name in files(server) if not name.endswith(".conf")] == []
    assert {row["state"] for row in rows(server).values() if row["name"] not in ("admin", "audit")} == {"loaded"}
    assert client.ping().inner.value == "ping"


def test_it_waits_for_who_holds_the_folder(server):
    holder = subprocess.Popen(["flock", "-x", server.path("plugins.d"), "-c", "echo held; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True)
    assert holder.stdout.readline() == "held\n"
    run = subprocess.Popen([program("startalkctl"), "-c", server.path("startalkd.conf"), "module", "disable", "ping"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(0.5)
    assert "40-ping.conf" in files(server)
    holder.communicate("go\n", timeout=10)
    assert run.wait(20) == 0, run.communicate()
    run.communicate()
    assert "40-ping.conf.disabled" in files(server)


def test_list_tells_how_each_module_stands(make_server, tmp_path):
    folder = tmp_path / "modules"
    server = make_server(server=plugin.modules_dir(folder, "witness.c"), plugins={"40-ping": "; a comment\n[ping]\n"})
    (folder / "broken.so").write_text("no module")
    found = rows(server)
    assert found["ping"]["state"] == "loaded" and found["ping"]["version"] == "0.1"
    assert found["ping"]["section"] == server.path("plugins.d", "40-ping.conf") + ":2"
    assert found["witness"]["state"] == "available" and found["witness"]["version"] == "1" and "section" not in found["witness"]
    assert found["broken"]["state"] == "failed" and "broken.so" in found["broken"]["fault"]
    (folder / "ping.so").unlink()
    shutil.copy(os.path.join(BUILD, "modules", "ping", "ping.so"), folder / "ping.so")
    assert rows(server)["ping"]["state"] == "restart needed"
    text = ok(server.ctl("module", "list"))
    assert re.search(r"^ping +0\.1 +restart needed +\S+/40-ping\.conf:2$", text, re.M), text
    assert re.search(r"^witness +1 +available +-$", text, re.M), text


def test_info_tells_what_a_loaded_module_has_registered(server):
    info = json.loads(ok(server.ctl("module", "info", "bind", "--json")))
    assert info["state"] == "loaded" and info["abi"] == "1.0" and info["file"].endswith("/bind.so")
    assert "iq set urn:ietf:params:xml:ns:xmpp-bind" in info["handlers"]
    auth = json.loads(ok(server.ctl("--json", "module", "info", "auth_sqlite")))
    assert auth["mechanisms"] == ["PLAIN"] and "users 1.0" in auth["services"]
    presence = json.loads(ok(server.ctl("--json", "module", "info", "presence")))
    assert "session-closed priority 0" in presence["hooks"]
    text = ok(server.ctl("module", "info", "bind"))
    for wanted in (r"^state +loaded$", r"^module API +1\.0 \(the server has 1\.0\)$", r"^  sessions-per-user = 10$", r"^      number, 0 to 100000; default: 10"):
        assert re.search(wanted, text, re.M), text


def test_info_tells_of_a_module_that_is_not_enabled(make_server):
    server = make_server(plugins={"20-bind": None})
    info = json.loads(ok(server.ctl("--json", "module", "info", "bind")))
    assert info["state"] == "available" and info["version"] == "0.1" and "handlers" not in info
    assert {one["name"]: one["default"] for one in info["options"]} == {"sessions-per-user": "10", "one-per-platform": "off"}
    refused(server.ctl("module", "info", "nosuch"), "there is no nosuch.so")


def test_faults_of_the_command_line_change_nothing(server):
    before = files(server)
    for words in ([], ["turn"], ["enable"], ["disable", "ping", "x"], ["list", "x"], ["enable", "../ping"], ["enable", "listen"],
                  ["enable", "ping", "speed"], ["enable", "ping", "=7"], ["enable", "ping", "a=b\n[bind]"], ["enable", "ping", "a= \"b"],
                  ["enable", "ping", "--speed", "7"]):
        refused(server.ctl("module", *words), status=2)
    assert files(server) == before


def test_a_value_is_read_back_as_it_was_given(make_server):
    server = make_server(plugins={"10-auth_sqlite": "[auth_sqlite]\n"})
    server.plugin("20-bind", "[bind]\n")
    server.plugin("30-presence", None)
    for value in ("a;b", " a ", "a ;b", ";a"):
        ok(server.ctl("module", "enable", "presence", f"navversion={value}"))
        info = json.loads(ok(server.ctl("--json", "module", "info", "presence")))
        assert next(one["value"] for one in info["options"] if one["name"] == "navversion") == value
        ok(server.ctl("module", "disable", "presence"))


def test_who_may_not_write_is_told_so(server):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    os.chmod(server.path("plugins.d"), 0o500)
    try:
        refused(server.ctl("module", "disable", "ping"), "cannot be renamed: Permission denied", "whom the folder belongs to")
    finally:
        os.chmod(server.path("plugins.d"), 0o700)


def test_the_file_may_be_read_by_who_reads_the_folder(make_server):
    server = make_server(plugins={"40-ping": None})
    os.chmod(server.path("plugins.d"), 0o750)
    ok(server.ctl("module", "enable", "ping"))
    assert os.stat(server.path("plugins.d", "ping.conf")).st_mode & 0o777 == 0o640


def test_the_module_behind_the_socket_can_be_disabled_and_enabled(server):
    out = ok(server.ctl("module", "disable", "admin"))
    assert "module admin is disabled" in out
    server.wait_log("admin: unloaded")
    assert "takes effect at the next start, or with SIGHUP" in ok(server.ctl("module", "enable", "admin"))
    since = len(server.lines)
    server.signal(signal.SIGHUP)
    server.wait_log("reload: done", since=since)
    assert rows(server)["admin"]["state"] == "loaded"
