# SPDX-License-Identifier: MIT
"""What a service manager is told, over the datagram socket that it names."""
import os
import signal
import socket
import time

import pytest


class Manager:
    """Holds the socket that systemd would hold."""

    def __init__(self, name):
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)

    def next(self, timeout=10):
        """The fields of the next datagram."""
        self.socket.settimeout(timeout)
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().split("\n"))


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@startalkd-test-{os.getpid()}-{time.monotonic_ns()}")
    yield made
    made.socket.close()


def started(make_server, manager, **env):
    server = make_server(start=False)
    server.env = {"NOTIFY_SOCKET": manager.name, **env}
    return server.start()


def test_ready_is_said_when_clients_are_served(make_server, manager, connect):
    server = started(make_server, manager)
    said = manager.next()
    assert said["READY"] == "1" and said["STATUS"] and "WATCHDOG" not in said
    assert connect(server).login()


def test_a_reload_is_said_at_both_ends_also_one_that_is_refused(make_server, manager):
    server = started(make_server, manager)
    assert manager.next()["READY"] == "1"
    before = time.monotonic_ns() // 1000
    server.signal(signal.SIGHUP)
    said = manager.next()
    assert said["RELOADING"] == "1" and before <= int(said["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert manager.next() == {"READY": "1", "STATUS": "Serving clients"}
    server.plugin("90-x", "[nosuch]")
    server.signal(signal.SIGHUP)
    assert manager.next()["RELOADING"] == "1"
    said = manager.next()
    assert said["READY"] == "1" and "refused" in said["STATUS"]


def test_the_end_is_said_before_sessions_end(make_server, manager):
    server = started(make_server, manager)
    manager.next()
    server.stop()
    assert manager.next()["STOPPING"] == "1"


def test_the_watchdog_hears_twice_as_often_as_it_asks(make_server, manager):
    server = started(make_server, manager, WATCHDOG_USEC="400000")
    manager.next()
    began, heard = time.monotonic(), 0
    while time.monotonic() < began + 2:
        assert manager.next(5) == {"WATCHDOG": "1"}
        heard += 1
    assert 5 <= heard <= 15  # some from before, too
    server.signal(signal.SIGSTOP)  # one that is stuck is silent
    try:
        time.sleep(0.1)
        with pytest.raises(TimeoutError):
            while True:
                manager.next(1)
    finally:
        server.signal(signal.SIGCONT)


def test_a_watchdog_for_another_process_is_none_of_its_business(make_server, manager):
    started(make_server, manager, WATCHDOG_USEC="200000", WATCHDOG_PID="1")
    manager.next()
    with pytest.raises(TimeoutError):
        manager.next(0.5)


def test_a_restart_in_place_is_a_reload_and_the_watchdog_goes_on(make_server, manager, connect):
    server = started(make_server, manager, WATCHDOG_USEC="600000")
    pid, said = server.process.pid, [manager.next()]
    server.signal(signal.SIGUSR2)
    while sum("READY" in one for one in said) < 2 or "WATCHDOG" not in said[-1]:
        said.append(manager.next())
    states = [key for one in said for key in one if key in ("READY", "RELOADING", "STOPPING")]
    assert states == ["READY", "RELOADING", "READY"] and server.process.pid == pid


def test_a_manager_that_is_gone_does_not_matter(make_server, manager, connect):
    server = started(make_server, manager)
    manager.next()
    manager.socket.close()
    if not manager.name.startswith("@"):
        os.unlink(manager.name)
    server.signal(signal.SIGHUP)
    server.wait_log("reload: done")
    server.wait_log("notify: the service manager cannot be told")
    assert connect(server).login().ping()


def test_a_name_that_is_none_is_told(make_server, connect):
    server = make_server(start=False)
    server.env = {"NOTIFY_SOCKET": "relative"}
    server.start()
    server.wait_log("notify: NOTIFY_SOCKET: 'relative'")
    assert connect(server).login()
