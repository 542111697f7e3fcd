# SPDX-License-Identifier: MIT
"""Root starts the server, and somebody else is it."""
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile

import pytest
from stk import example
from stk.server import BUILD, program

USER = "nobody"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def open_folder():
    """A folder that every user can look into, with the server and its modules in it."""
    folder = tempfile.mkdtemp(prefix="stk")
    os.chmod(folder, 0o755)
    os.mkdir(f"{folder}/modules")
    shutil.copy(program("startalkd"), folder)
    for name in os.listdir(os.path.join(BUILD, "modules")):
        module = os.path.join(BUILD, "modules", name, f"{name}.so")
        if os.path.exists(module):
            shutil.copy(module, f"{folder}/modules")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def become(open_folder, make_server):
    """become(SERVER-LINES): a server that has the user of that section; its state directory is where that user may look."""
    def make(lines=f"user = {USER}", start=True, port=0):
        server = make_server(start=False)
        server.startalkd = f"{open_folder}/startalkd"
        os.symlink(f"{open_folder}/state", server.path("state"))
        server.plugin("50-admin", f"[admin]\nsocket = {open_folder}/state/admin.sock\n")
        config = server.path("startalkd.conf")
        with open(config, encoding="utf-8") as file:
            text = file.read()
        with open(config, "w", encoding="utf-8") as file:
            file.write(text.replace("state-dir = state\n", f"state-dir = {open_folder}/state\nmodules-dir = {open_folder}/modules\n{lines}\n")
                       .replace("port = 0", f"port = {port}"))
        server.folder = shutil.copytree(server.folder, f"{open_folder}/conf{len(os.listdir(open_folder))}", symlinks=True)
        if example.is_sanitized():
            server.env = {"ASAN_OPTIONS": "detect_leaks=0"}  # finding leaks wants to trace the process, which nobody may
        return server.start() if start else server
    return make


def status(server):
    """What the kernel says of the process."""
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as file:
        return dict(re.match(r"(\w+):\s*(.*)", line).groups() for line in file if ":" in line)


def all_threads(server, field):
    values = set()
    for thread in os.listdir(f"/proc/{server.process.pid}/task"):
        with open(f"/proc/{server.process.pid}/task/{thread}/status", encoding="ascii") as file:
            values |= {line.split(":", 1)[1].strip() for line in file if line.startswith(f"{field}:")}
    return values


@root_only
def test_nothing_of_root_is_left_in_any_thread(become, connect):
    server = become()
    user = pwd.getpwnam(USER)
    connect(server).login()
    assert all_threads(server, "Uid") == {"\t".join([str(user.pw_uid)] * 4)}
    assert all_threads(server, "Gid") == {"\t".join([str(user.pw_gid)] * 4)}
    assert all_threads(server, "Groups") == {" ".join(map(str, sorted(os.getgrouplist(USER, user.pw_gid))))}
    for field in ("CapEff", "CapPrm", "CapAmb"):
        assert all_threads(server, field) == {"0" * 16}
    assert all_threads(server, "NoNewPrivs") == {"1"}


@root_only
def test_the_state_directory_is_made_for_the_user(become):
    server = become()
    uid = pwd.getpwnam(USER).pw_uid
    made = os.stat(server.path("state"))
    assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (uid, 0o700)
    assert {os.stat(server.path("state", name)).st_uid for name in os.listdir(server.path("state"))} == {uid}
    server.stop()
    server.start()  # and what is there is used


@root_only
def test_a_port_that_only_root_can_bind_is_bound_before(become, connect):
    with socket.socket() as probe:
        free = next((port for port in range(900, 1024) if probe.connect_ex(("127.0.0.1", port)) != 0), None)
    server = become(port=free)
    assert server.port == free < 1024 and status(server)["Uid"].split()[0] != "0"
    assert connect(server).login()
    since = len(server.lines)
    server.signal(signal.SIGUSR2)  # who it has become could not bind it again
    server.wait_log("server: ready", since=since)
    assert connect(server).login()


@root_only
def test_who_cannot_bind_a_low_port_is_told_why(become):
    server = become("", start=False, port=999)
    done = subprocess.run(["setpriv", f"--reuid={USER}", "--clear-groups", server.startalkd, "-c", server.path("startalkd.conf")],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "127.0.0.1:999: Permission denied; a port below 1024 needs root" in done.stderr


@root_only
def test_a_configuration_that_a_reload_could_not_read_is_named(become):
    server = become(start=False)
    os.chmod(server.path("startalkd.conf"), 0o600)
    server.start()
    assert server.wait_log("warning .*startalkd.conf: ").endswith("user nobody cannot read it, so that a reload would fail")


@root_only
def test_the_group_can_be_another(become):
    server = become(f"user = {USER}\ngroup = daemon")
    assert status(server)["Gid"].split() == [str(os.stat(server.path("state")).st_gid)] * 4
    assert status(server)["Gid"].split()[0] == "1"


@root_only
def test_a_state_directory_of_another_user_is_named(become, open_folder):
    server = become(start=False)
    os.mkdir(f"{open_folder}/state", 0o700)
    done = server.run("--plan")
    assert done.returncode == 1
    assert f"{open_folder}/state: the state directory is of uid 0, the server runs as uid" in done.stderr
    assert "Permission denied" in done.stderr and os.listdir(f"{open_folder}/state") == []


@root_only
def test_the_plan_leaves_no_files_of_root_behind(become, open_folder):
    server = become(start=False)
    assert server.run("--plan").returncode == 0
    names = os.listdir(f"{open_folder}/state")
    assert names and {os.stat(f"{open_folder}/state/{name}").st_uid for name in names} == {pwd.getpwnam(USER).pw_uid}


@pytest.mark.parametrize("line, fault", [("user = nosuchuser", "there is no user 'nosuchuser'"), ("group = nosuchgroup", "there is no group"),
                                         ("group = daemon", "group goes with user")])
def test_users_and_groups_that_are_not_there_are_faults(become, line, fault):
    done = become(line, start=False).run("--check")
    assert done.returncode == 1 and re.search(r"startalkd.conf:\d+: .*" + fault, done.stderr)


@root_only
def test_who_is_not_root_cannot_become_somebody_else(become):
    server = become("user = daemon", start=False)
    done = subprocess.run(["setpriv", f"--reuid={USER}", "--clear-groups", server.startalkd, "-c", server.path("startalkd.conf"), "--plan"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "only root and the user itself can start the server as: daemon" in done.stderr


@root_only
def test_root_is_warned_unless_it_is_meant(server, become):
    server.wait_log("warning server: runs as root")
    meant = become("user = root")
    assert not any("runs as root" in line for line in meant.lines)
    assert status(meant)["Uid"].split() == ["0"] * 4 and status(meant)["NoNewPrivs"] == "1"


@pytest.mark.parametrize("lines, dumpable", [("", False), ("core-dumps = on", True)])
@root_only
def test_a_core_dump_is_left_only_when_it_is_asked_for(become, lines, dumpable):
    server = become(f"user = {USER}\n{lines}")
    # The files of a process that cannot be dumped are root's.
    assert (os.stat(f"/proc/{server.process.pid}/environ").st_uid != 0) == dumpable
    assert any("a dump holds passwords" in line for line in server.lines) == dumpable


@pytest.mark.parametrize("name", ["tls.key", "login-rsa.key"])
def test_a_key_that_others_can_read_is_named_with_what_to_do(server, name):
    key = server.path("state", name)
    server.stop()
    assert not any("chmod o=" in line for line in server.lines)
    os.chmod(key, 0o644)
    server.start()
    assert server.wait_log("warning .*chmod o= it").count(f"state/{name}: ") == 1


@root_only
def test_what_root_restores_belongs_to_the_server_s_user(become, connect):
    server = become()
    state = os.path.realpath(server.path("state"))
    done = server.ctl("backup", f"{state}/b.tar")
    assert done.returncode == 0, done
    server.stop()
    backup = shutil.copy(f"{state}/b.tar", server.folder)
    user = pwd.getpwnam(USER)
    for force in ([], ["--force"]):
        if not force:
            shutil.rmtree(state)
        done = server.ctl("restore", backup, *force)
        assert done.returncode == 0, done
        for path in (state, *(f"{state}/{name}" for name in os.listdir(state))):
            assert (os.stat(path).st_uid, os.stat(path).st_gid) == (user.pw_uid, user.pw_gid), path
        server.start()
        connect(server).login()
        server.stop()


@root_only
def test_a_restart_in_place_is_refused_where_a_new_port_needs_root(become, connect):
    server = become()
    alice = connect(server).login()
    config = server.path("startalkd.conf")
    with open(config, encoding="utf-8") as file:
        text = file.read()

    def try_with(port):
        since = len(server.lines)
        with open(config, "w", encoding="utf-8") as file:
            file.write(text + f"\n[listen low]\naddress = 127.0.0.9\nport = {port}\n")
        server.signal(signal.SIGUSR2)
        return since

    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
        if int(file.read()) <= 1:
            pytest.skip("anybody may have any port here")
    since = try_with(1)
    server.wait_log("listen: 127.0.0.9:1: Permission denied; a port below 1024 needs root .*; a restart in place cannot take it", since=since)
    server.wait_log("not restarted", since=since)
    assert alice.ping().inner.value == "ping"
    with socket.socket() as free:
        free.bind(("127.0.0.9", 0))
        port = free.getsockname()[1]
    since = try_with(port)
    server.wait_log("server: ready", 30, since)
    assert port in server.ports
    since = try_with(port)  # now it has that one already
    server.wait_log("server: ready", 30, since)
