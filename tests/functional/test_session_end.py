# SPDX-License-Identifier: MIT
"""How sessions end, and how clients notice."""
import signal
import time

from stk import wire
from stk.wire import pb


def test_after_stream_end_the_connection_is_reset_in_clear(server, connect):
    client = connect(server)
    client.welcome()
    client.send(wire.WELCOME, pb.WelcomeMessage(domain="example.org", version="1.0", user="alice"))
    assert client.expect_end(222).reset


def test_after_stream_end_tls_closes_without_close_notify(server, connect):
    client = connect(server)
    client.welcome()
    client.starttls()
    client.records.clear()
    client.send(wire.WELCOME, pb.WelcomeMessage(domain="example.org", version="1.0", user="alice"))
    client.expect_end(222)
    assert len(client.records) == 1  # the StreamEnd, and no alert behind it


def test_sigterm_tells_everybody_and_exits_cleanly(server, connect):
    clients = [connect(server).login(), connect(server, "bob").login(tls=False), connect(server)]
    clients[2].welcome()
    server.signal(signal.SIGTERM)
    for client in clients:
        client.expect_end(111)
    assert server.process.wait(10) == 0


def test_the_same_full_jid_replaces_the_older_session(server, connect):
    old, new = connect(server).login(), connect(server).login()
    old.expect_end(222)
    assert new.ping().inner.value == "ping"


def test_one_session_more_than_allowed_ends_the_oldest(make_server, connect):
    server = make_server(plugins={"20-bind": "[bind]\nsessions-per-user = 3"})
    clients = [connect(server).login(resource=f"V_P[PC{i}]_x") for i in range(4)]
    clients[0].expect_end(222)
    for client in clients[1:]:
        assert client.ping().inner.value == "ping"


def test_the_default_allows_ten_sessions(server, connect):
    clients = [connect(server).login(resource=f"V_P[PC{i}]_x", tls=False) for i in range(11)]
    clients[0].expect_end(222)
    assert clients[1].ping().inner.value == "ping"


def test_one_per_platform_ends_the_other_of_the_same_platform_only(make_server, connect):
    server = make_server(plugins={"20-bind": "[bind]\none-per-platform = on"})
    pc, mac = connect(server).login(resource="V[1]_P[PC]_ID[1]"), connect(server).login(resource="V[1]_P[Mac]_ID[1]")
    again = connect(server).login(resource="V[1]_P[PC]_ID[2]")
    pc.expect_end(222)
    assert mac.ping().inner.value == "ping" and again.ping().inner.value == "ping"


def test_a_silent_client_is_ended_after_idle_timeout_and_a_pinging_one_is_not(make_server, connect):
    server = make_server(limits="idle-timeout = 1s")
    silent, lively = connect(server).login(resource="V_P[PC]_silent"), connect(server, "bob").login()
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        assert lively.ping().inner.value == "ping"
        time.sleep(0.2)
    silent.expect_end(102)


def test_a_client_that_goes_without_a_word_is_forgotten(server, connect):
    client = connect(server).login()
    client.close()
    server.wait_log("session: alice@example.org/.*(closed by the peer|reset)")
    connect(server).login().quiet()
