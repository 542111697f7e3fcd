# SPDX-License-Identifier: MIT
"""Peers that do not read, hardly write, or only connect."""
import os
import time

from stk import wire
from stk.wire import pb


def test_a_reader_that_stops_is_ended_while_others_go_on(make_server, connect):
    server = make_server(limits="max-send-queue = 256 KiB")
    sender, slow, other = connect(server).login(), connect(server, "bob"), connect(server, "bob")
    slow.sock.setsockopt(1, 8, 4096)  # SO_RCVBUF
    slow.login(resource="V_P[PC]_slow", tls=False)
    other.login(resource="V_P[Mac]_other")
    data = os.urandom(200_000).hex()
    for i in range(40):
        sender.notify(7, data, slow.jid)
        assert sender.ping().inner.value == "ping"
        if any("the send queue is full" in line for line in server.lines):
            break
    server.wait_log("ended with 102: the send queue is full")
    assert other.ping().inner.value == "ping"


def test_a_sender_of_a_byte_now_and_then_meets_the_deadline(make_server, connect):
    server = make_server(login="stream-timeout = 500ms")
    client = connect(server)
    started = time.monotonic()
    data = wire.frame(wire.WELCOME, pb.WelcomeMessage(domain="example.org", version="1.0", user="alice"))
    for byte in data[:-1]:
        try:
            client.send_bytes(bytes([byte]))
        except OSError:
            break
        time.sleep(0.05)
    assert time.monotonic() - started < 5
    server.wait_log("ended with 102: wait for stream timeout")


def test_500_silent_connections_do_not_keep_a_login_from_working(server, connect):
    for _ in range(500):
        connect(server)
    started = time.monotonic()
    connect(server).login()
    assert time.monotonic() - started < 5


def test_a_flood_of_pings_is_answered_in_full_and_in_order(server, connect):
    client = connect(server).login(tls=False)
    count = 5000
    for at in range(0, count, 500):
        client.send_bytes(b"".join(wire.frame(wire.IQ, pb.IQMessage(key="PING", messageId=str(i))) for i in range(at, at + 500)))
        for i in range(at, at + 500):
            assert client.expect(wire.IQ).inner.messageId == str(i)


def test_connections_over_the_limit_are_refused_and_room_is_used_again(make_server, connect):
    server = make_server(limits="max-connections = 3")
    clients = [connect(server) for _ in range(3)]
    for client in clients:
        client.welcome()
    refused = connect(server)
    refused.expect_end(102)
    server.wait_log(r"listen: max-connections \(3\) is reached")
    clients[0].close()
    server.wait_log("closed by the peer")
    connect(server).welcome()
