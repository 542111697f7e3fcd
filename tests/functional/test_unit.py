# SPDX-License-Identifier: MIT
"""The systemd unit: systemd finds it right and tight, and the server can live with what it takes away."""
import os
import re
import shutil
import signal
import subprocess

import pytest
from stk import example
from stk.server import BUILD, program
from stk.wire import ROOT

EXPOSURE_MAX = 1.5  # as systemd-analyze counts, from 0 to 10; it is 1.1, but other versions weigh differently
DIST = os.path.join(ROOT, "dist")

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")


def analyze(*args):
    return subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, timeout=60, env={**os.environ, "SYSTEMD_COLORS": "0", "LC_ALL": "C"})


@pytest.fixture
def unit(tmp_path):
    """The unit as it is installed, but with the programs of this build, since systemd looks whether they are there."""
    made = os.path.join(BUILD, "dist", "startalkd.service")
    if not os.path.exists(made):
        pytest.skip("configured without units")
    with open(made, encoding="utf-8") as file:
        text = file.read()
    for name in ("startalkd", "startalkctl"):
        text = re.sub(rf"/\S*bin/{name}\b", program(name), text)
    path = tmp_path / "startalkd.service"
    path.write_text(text, encoding="utf-8")
    shutil.copy(os.path.join(DIST, "startalkd.socket"), tmp_path)
    return str(path)


def settings(path):
    """[(key, value)]"""
    with open(path, encoding="utf-8") as file:
        return re.findall(r"^(\w+)=(.*)$", file.read(), re.M)


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(unit):
    done = analyze("verify", "--man=no", unit, os.path.join(os.path.dirname(unit), "startalkd.socket"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
def test_little_is_exposed(unit):
    done = analyze("security", "--offline=yes", "--no-pager", unit)
    found = re.search(r"Overall exposure level for startalkd.service: ([\d.]+)", done.stdout)
    assert found and float(found.group(1)) <= EXPOSURE_MAX, done.stdout + done.stderr


@pytest.mark.parametrize("tool, name", [("systemd-sysusers", "startalkd.sysusers"), ("systemd-tmpfiles", "startalkd.tmpfiles")])
def test_user_and_directories_are_made_as_said(tmp_path, tool, name):
    if not shutil.which(tool):
        pytest.skip(f"no {tool} here")
    if os.geteuid() != 0:
        pytest.skip("only root can make users")
    os.makedirs(tmp_path / "etc")
    for made in (["systemd-sysusers", f"--root={tmp_path}", f"{DIST}/startalkd.sysusers"], [tool, f"--root={tmp_path}", f"{DIST}/{name}"]):
        command = [*made[:1], *(["--create"] if made[0] == "systemd-tmpfiles" else []), *made[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    user = (tmp_path / "etc" / "passwd").read_text().split(":")
    assert user[0] == "startalkd" and user[5] == "/var/lib/startalkd" and "nologin" in user[6]
    if tool == "systemd-tmpfiles":
        state = os.stat(tmp_path / "var" / "lib" / "startalkd")
        assert (state.st_uid, state.st_mode & 0o777) == (int(user[2]), 0o700)


def members(set_name, seen=()):
    """The system calls of a set of systemd's."""
    names = set()
    for line in analyze("syscall-filter", set_name).stdout.splitlines():
        name = line.strip()
        if name.startswith("@") and name != set_name and name not in seen:
            names |= members(name, (*seen, set_name))
        elif re.fullmatch(r"\w+", name):
            names.add(name)
    return names


@needs_systemd
@pytest.mark.skipif(not shutil.which("strace"), reason="no strace here")
def test_the_server_makes_no_call_that_the_unit_forbids(unit, make_server, connect, tmp_path):
    if example.is_sanitized():
        pytest.skip("the sanitizer makes calls of its own")
    allowed = set()
    for value in (value for key, value in settings(unit) if key == "SystemCallFilter"):
        named = set().union(*(members(name) for name in value.lstrip("~").split()))
        allowed = allowed - named if value.startswith("~") else allowed | named
    assert "epoll_wait" in allowed and "setuid" not in allowed
    calls = tmp_path / "calls"
    server = make_server(start=False)
    server.inside = ["strace", "-D", "-f", "-qq", "-o", str(calls)]
    server.start()
    server.inside = []
    alice, bob = connect(server).login(), connect(server, "bob").login()
    alice.message("bob@example.org", "hello")
    bob.next()
    assert server.ctl("status").returncode == 0
    server.signal(signal.SIGHUP)
    server.wait_log("reload: done")
    since = len(server.lines)
    server.signal(signal.SIGUSR2)  # a restart in place, too
    server.wait_log("server: ready", since=since)
    server.stop()
    made = set(re.findall(r"^\d+ +(\w+)\(", calls.read_text(errors="replace"), re.M))
    assert {"accept4", "epoll_wait", "fdatasync"} <= made
    root = {"fchown"} if os.geteuid() == 0 else set()  # of SQLite, for files of a directory that is somebody else's
    assert not made - allowed - root
