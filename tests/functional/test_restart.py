# SPDX-License-Identifier: MIT
"""The program is executed anew in place: the same process, the same sockets, other code. And sockets that a service manager hands over."""
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from stk import plugin, wire
from stk.server import program


def restart(server):
    since, ports = len(server.lines), list(server.ports)
    server.signal(signal.SIGUSR2)
    server.wait_log("server: ready", 30, since)
    assert server.ports[len(ports):] == ports, "the sockets are the same"
    return "\n".join(server.lines[since:])


class Knocking(threading.Thread):
    """Connects again and again; what is not accepted is counted."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.refused, self.accepted, self.stop = port, 0, 0, threading.Event()

    def run(self):
        while not self.stop.is_set():
            try:
                socket.create_connection(("127.0.0.1", self.port), 10).close()
                self.accepted += 1
            except OSError:
                self.refused += 1
            time.sleep(0.002)


def test_it_restarts_in_place_and_nobody_who_connects_is_refused(server, connect):
    pid = server.process.pid
    alice = connect(server).login()
    knocking = Knocking(server.port)
    knocking.start()
    log = restart(server)
    alice.expect_end(111)
    knocking.stop.set()
    knocking.join(20)
    assert knocking.refused == 0 and knocking.accepted > 3
    assert server.process.poll() is None and f"pid {pid}" in log
    again = connect(server).login()
    assert again.ping().inner.value == "ping"


def test_what_was_receipted_before_it_arrives_after_it(server, connect):
    alice = connect(server).login()
    sent = []
    for number in range(50):
        sent.append(alice.message("bob@example.org", f"{number}"))
        alice.receipt(sent[-1])
    restart(server)
    bob = connect(server, "bob").login()
    assert [bob.expect(wire.CHAT).inner.messageId for _ in sent] == sent


def test_changed_code_of_a_module_is_what_runs_afterwards(make_server, tmp_path):
    where = str(tmp_path / "modules")
    line = plugin.modules_dir(where)
    plugin.build(where, "counter.c", ("cc", "-std=c17", '-DVERSION="one"'))
    server = make_server(server=line, plugins={"70-counter": "[counter]"})
    assert "counter" in server.ctl("module", "list").stdout and "one" in server.ctl("module", "list").stdout
    os.unlink(os.path.join(where, "counter.so"))
    plugin.build(where, "counter.c", ("cc", "-std=c17", '-DVERSION="two"'))
    assert "restart needed" in server.ctl("module", "list").stdout
    done = server.ctl("restart")
    assert done.returncode == 0 and done.stdout == "the server has restarted\n", done
    listed = server.ctl("module", "list").stdout
    assert "two" in listed and "restart needed" not in listed


def test_a_configuration_with_faults_refuses_the_restart_and_sessions_stay(server, connect):
    alice = connect(server).login()
    server.plugin("90-x", "[nosuch]")
    since = len(server.lines)
    server.signal(signal.SIGUSR2)
    server.wait_log("there is no nosuch.so", since=since)
    server.wait_log("server: not restarted", since=since)
    assert alice.ping().inner.value == "ping"
    done = server.ctl("restart")
    assert done.returncode == 1 and "there is no nosuch.so" in done.stderr and "everything stays as it is" in done.stderr
    server.plugin("90-x", "")
    restart(server)
    alice.expect_end(111)


def test_without_a_server_restart_says_so(server):
    server.stop()
    server.process = None
    done = server.ctl("restart")
    assert done.returncode != 0 and "no server runs" in done.stderr


def test_sockets_of_a_service_manager_are_used(make_server, connect):
    server = make_server(start=False)
    first, other = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    port = first.getsockname()[1]
    with open(server.path("startalkd.conf"), encoding="utf-8") as file:
        text = file.read()
    with open(server.path("startalkd.conf"), "w", encoding="utf-8") as file:
        file.write(text.replace("port = 0", f"port = {port}"))
    early = socket.create_connection(("127.0.0.1", port))  # before there is a server
    high = [os.dup(one.fileno()) for one in (first, other)]
    command = ("import os,sys;os.dup2(int(sys.argv[1]),3);os.dup2(int(sys.argv[2]),4);os.environ.update(LISTEN_PID=str(os.getpid()),LISTEN_FDS='2');"
               "os.execv(sys.argv[3],[sys.argv[3],'-c',sys.argv[4]])")
    server.process = subprocess.Popen([sys.executable, "-c", command, *map(str, high), program("startalkd"), server.path("startalkd.conf")],
                                      stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, pass_fds=high)
    server.changed = threading.Condition()
    server.thread = threading.Thread(target=server._read, args=(server.process,), daemon=True)
    server.thread.start()
    for one in (first, other):
        one.close()
    for number in high:
        os.close(number)
    server.wait_log("server: ready", 60)
    server.wait_log("descriptor 4, which was handed over, belongs to no")
    assert server.ports == [port]
    server.port = port
    early.settimeout(10)
    server.sql("INSERT INTO users (username, password) VALUES ('alice', 'pw')")
    server.passwords["alice"] = "pw"
    assert connect(server).login().ping()
    early.close()


def test_other_processes_sockets_are_left_alone(make_server):
    server = make_server(start=False)
    server.env = {"LISTEN_PID": "1", "LISTEN_FDS": "3"}
    server.start()
    assert not [line for line in server.lines if "handed over" in line]
