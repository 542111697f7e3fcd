# SPDX-License-Identifier: MIT
"""The example webhook: every stored message arrives at an HTTP server, in order, whatever that one does meanwhile."""
import contextlib
import hashlib
import hmac
import json
import os
import signal
import sqlite3
import threading

import pytest
from stk import example, wire

QUICK = "retry-min = 20ms\nretry-max = 100ms\n"


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    return example.modules_dir(tmp_path_factory.mktemp("webhook"), "webhook")


class Receiver(example.Web):
    """Takes batches. status: what it answers; taken: the messages that it said yes to."""

    def __init__(self, **kwargs):
        self.status, self.taken, self.go_on = 200, [], threading.Event()
        self.go_on.set()
        super().__init__(self.take, **kwargs)

    def take(self, request):
        events = json.loads(request.body)
        self.go_on.wait(30)
        status = self.status
        if status // 100 == 2:
            self.taken += events
        return status, ""

    def close(self):
        self.go_on.set()
        super().close()

    def texts(self, count):
        example.wait_until(lambda: len(self.taken) >= count)
        return [event["text"] for event in self.taken]


@pytest.fixture
def receiver():
    web = Receiver()
    yield web
    web.close()


@pytest.fixture
def hooked(modules, make_server):
    def make(receiver, options=QUICK, **kwargs):
        return make_server(server=modules, plugins={"82-webhook": f"[webhook]\nurl = {receiver.url}\n{options}", **kwargs.pop("plugins", {})}, **kwargs)
    return make


def send(client, *texts):
    for text in texts:
        client.receipt(client.message("bob@example.org", text))


def test_a_stored_message_is_posted_as_json(hooked, receiver, connect):
    alice = connect(hooked(receiver)).login()
    sent = alice.message("bob@example.org", 'quote " and\nline, 你好', kind=5, headers=[(3, '{"a":1}')])
    time = alice.receipt(sent).inner.receivedTime
    request = receiver.wait(1)[0]
    assert request.headers["Content-Type"] == "application/json" and "X-Startalk-Signature" not in request.headers
    assert json.loads(request.body) == [{"from": alice.jid, "to": "bob@example.org", "type": "chat", "id": sent, "kind": "5", "time": time,
                                         "extend_info": '{"a":1}', "text": 'quote " and\nline, 你好'}]


def test_what_is_not_stored_is_not_posted(hooked, receiver, connect):
    server = hooked(receiver)
    alice, bob = connect(server).login(), connect(server, "bob").login()
    alice.message("bob@example.org", "x", wire.TYPING)
    alice.message("nobody@example.org", "x")
    alice.receipt(alice.message("bob@example.org", "one", message_id="m1"))
    alice.receipt(alice.message("bob@example.org", "one", message_id="m1"))
    bob.receipt(bob.mark("alice@example.org", 3, "m1"))
    alice.receipt(alice.message("bob@example.org", "two"))
    assert receiver.texts(2) == ["one", "two"]


def test_many_messages_arrive_in_order_over_one_connection(hooked, receiver, connect):
    alice = connect(hooked(receiver)).login()
    wanted = [f"text {i}" for i in range(300)]
    for text in wanted:
        last = alice.message("bob@example.org", text)
    alice.receipt(last, 30)
    assert receiver.texts(300) == wanted
    assert receiver.connections == 1 and len(receiver.requests) <= 300


@pytest.mark.parametrize("status", [500, 503, 302, 404, 429])
def test_a_failure_is_tried_again_until_it_is_taken(hooked, receiver, connect, status):
    server = hooked(receiver)
    alice = connect(server).login()
    receiver.status = status
    send(alice, "one", "two")
    requests = receiver.wait(4)
    assert [json.loads(request.body)[0]["text"] for request in requests[:4]] == ["one"] * 4
    server.wait_log(f"webhook: .*: status {status}; again in")
    receiver.status = 200
    assert receiver.texts(2) == ["one", "two"]
    server.wait_log("takes messages again")


def test_a_receiver_that_is_down_or_slow_gets_everything_later(hooked, receiver, connect):
    server = hooked(receiver, QUICK + "timeout = 200ms\n")
    alice = connect(server).login()
    receiver.go_on.clear()
    send(alice, "one")
    server.wait_log("timed out .*; again in")
    port = receiver.port
    receiver.close()
    send(alice, "two")
    server.wait_log("(refused|connect).*; again in")
    again = Receiver(port=port)
    try:
        assert again.texts(2) == ["one", "two"]
    finally:
        again.close()


def test_what_the_receiver_calls_wrong_is_not_posted_again(hooked, receiver, connect):
    server = hooked(receiver)
    alice = connect(server).login()
    receiver.status = 422
    send(alice, "one")
    server.wait_log("status 422: 1 messages are not posted again")
    receiver.status = 200
    send(alice, "two")
    assert receiver.texts(1) == ["two"]


def test_a_full_queue_drops_the_oldest_and_says_so_once(hooked, receiver, connect):
    server = hooked(receiver, QUICK + "queue-size = 8 KiB\n")
    alice = connect(server).login()
    receiver.go_on.clear()
    texts = [f"{i:03}" + "x" * 500 for i in range(40)]
    send(alice, *texts)
    receiver.wait(1)
    receiver.go_on.set()
    example.wait_until(lambda: receiver.taken and receiver.taken[-1]["text"] == texts[-1])
    got = [event["text"] for event in receiver.taken]
    assert got[0] == texts[0], "what is under way stays"
    assert got[1:] == texts[-len(got) + 1:] and 5 < len(got) < 20
    server.wait_log(f"nothing waits any more; {40 - len(got)} messages had been dropped")
    figures = dict(line.split() for line in server.ctl("metrics").stdout.splitlines())
    assert int(figures["webhook_dropped"]) == 40 - len(got) and int(figures["webhook_posted"]) == len(got)
    assert len([line for line in server.lines if "the queue is full" in line]) == 1
    receiver.go_on.clear()
    send(alice, *texts[:20])
    assert len([line for line in server.lines if "the queue is full" in line]) == 2, "the next time is another one"


def test_each_request_is_signed(hooked, receiver, connect, modules, make_server):
    server = make_server(server=modules, start=False)
    with open(server.path("key"), "w", encoding="utf-8") as file:
        file.write("a secret of ours\nsecond line\n")
    server.plugin("82-webhook", f"[webhook]\nurl = {receiver.url}\nsecret-file = ../key\n")
    server.start()
    send(connect(server).login(), "one")
    request = receiver.wait(1)[0]
    assert request.headers["X-Startalk-Signature"] == "sha256=" + hmac.new(b"a secret of ours", request.body, hashlib.sha256).hexdigest()
    assert "a secret of ours" not in "\n".join(server.lines)


def test_what_waits_when_the_server_stops_is_posted_after_the_next_start(hooked, receiver, connect):
    server = hooked(receiver)
    receiver.status = 503
    send(connect(server).login(), "one", "two\nlines")
    receiver.wait(1)
    server.stop()
    path = server.path("state", "webhook.queue")
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert server.run("--plan").returncode == 0 and os.path.exists(path)
    receiver.status = 200
    server.start()
    assert receiver.texts(2) == ["one", "two\nlines"]
    assert not os.path.exists(path)


def test_what_is_stored_while_the_server_stops_is_not_lost(hooked, receiver, connect):
    server = hooked(receiver)
    alice = connect(server).login()
    with contextlib.closing(sqlite3.connect(server.path("state", "archive.db"), isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        for i in range(20):
            alice.message("bob@example.org", str(i))
        alice.ping()
        server.signal(signal.SIGTERM)
        alice.expect_end(111)
        lock.execute("ROLLBACK")
    assert server.process.wait(20) == 0
    server.stop()
    assert not receiver.requests
    server.start()
    assert receiver.texts(20) == [str(i) for i in range(20)]


def test_reload_keeps_the_queue_and_tries_at_once(hooked, receiver, connect):
    server = hooked(receiver, "retry-min = 1h\nretry-max = 1h\n")
    receiver.status = 401
    send(connect(server).login(), "one")
    server.wait_log("status 401; again in")
    receiver.status = 200
    server.plugin("82-webhook", f"[webhook]\nurl = {receiver.url}2\n")
    server.signal(signal.SIGHUP)
    assert receiver.texts(1) == ["one"] and receiver.requests[-1].path == "/there2"


def test_unload_in_the_middle_of_a_request_keeps_it_for_the_next_load(hooked, receiver, connect):
    server = hooked(receiver)
    receiver.go_on.clear()
    send(connect(server).login(), "one")
    receiver.wait(1)
    server.plugin("82-webhook", None)
    server.signal(signal.SIGHUP)
    server.wait_log("module: webhook: unloaded")
    receiver.status, receiver.taken = 200, []
    server.plugin("82-webhook", f"[webhook]\nurl = {receiver.url}2\n")
    server.signal(signal.SIGHUP)
    receiver.go_on.set()
    requests = receiver.wait(2)
    assert requests[1].path == "/there2" and json.loads(requests[1].body)[0]["text"] == "one"


def test_it_needs_the_archive_and_says_so(hooked, receiver):
    server = hooked(receiver, plugins={"35-archive": None}, start=False)
    done = server.run("--check")
    assert done.returncode == 1 and "module 'webhook' needs module 'archive'" in done.stderr


@pytest.mark.parametrize("options, fault", [
    ("secret-file = nosuch", "secret-file: "), ("retry-min = 1h", "retry-min is longer than retry-max"),
])
def test_check_finds_faults(hooked, receiver, options, fault):
    done = hooked(receiver, options, start=False).run("--check")
    assert done.returncode == 1 and fault in done.stderr
