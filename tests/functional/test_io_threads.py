# SPDX-License-Identifier: MIT
"""I/O threads: what is visible of them. That all else works with them, too, is what STK_IO_THREADS is for: see README.md."""
import os
import signal

from stk import wire


def io_threads(server):
    """The names of the server's I/O threads."""
    tasks = f"/proc/{server.process.pid}/task"
    names = []
    for task in os.listdir(tasks):
        with open(os.path.join(tasks, task, "comm"), encoding="utf-8") as file:
            names.append(file.read().strip())
    return sorted(name for name in names if name.startswith("io-"))


def test_as_many_threads_as_are_set_are_started(make_server):
    assert io_threads(make_server(server="io-threads = 3")) == ["io-1", "io-2", "io-3"]
    assert not io_threads(make_server(server="io-threads = 0"))


def test_unless_told_otherwise_it_leaves_one_processor_to_the_router(make_server):
    server = make_server(server="io-threads = -1")
    assert len(io_threads(server)) == min(len(os.sched_getaffinity(server.process.pid)) - 1, 8)


def test_messages_between_threads_keep_their_order(make_server, connect):
    server = make_server(server="io-threads = 3")
    alice, bob = connect(server).login(), connect(server, "bob").login(tls=False)
    count = 300
    for i in range(count):
        alice.message("bob@example.org", f"number {i}", message_id=f"id-{i}")
    received = [bob.expect(wire.CHAT).inner.messageId for _ in range(count)]
    assert received == [f"id-{i}" for i in range(count)]


def test_sigterm_tells_the_clients_of_all_threads(make_server, connect):
    server = make_server(server="io-threads = 3")
    clients = [connect(server).login(resource=f"r{i}", tls=i % 2 == 0) for i in range(7)]
    server.signal(signal.SIGTERM)
    for client in clients:
        client.expect_end(111)
    assert server.process.wait(10) == 0


def test_connections_are_counted_over_all_threads(make_server, connect):
    server = make_server(server="io-threads = 3", limits="max-connections = 4")
    clients = [connect(server) for _ in range(4)]
    for client in clients:
        client.welcome()
    connect(server).expect_end(102)
    server.wait_log(r"listen: max-connections \(4\) is reached")
    clients[0].close()
    server.wait_log("closed by the peer")
    connect(server).welcome()
