# SPDX-License-Identifier: MIT
"""Limits: on connections, on memory and descriptors, on what one session sends. Most need no time of their own."""
import re
import time

import pytest
from stk import wire
from stk.client import Closed
from stk.wire import pb

STRICT = "trusted-addresses = 192.0.2.1\n"


def set_limits(server, text):
    """Replaces the body of [limits] and has the server take it."""
    path = server.path("startalkd.conf")
    with open(path, encoding="utf-8") as file:
        conf = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(re.sub(r"(?s)\[limits\].*", f"[limits]\n{text}\n", conf))
    done = server.ctl("reload")
    assert done.returncode == 0, done.stderr


def eventually(check, seconds=10):
    """What check() returns, once it is true."""
    deadline = time.monotonic() + seconds
    while not (result := check()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert result
    return result


def gets_in(server, connect, **kwargs):
    """Does the server say Welcome to a new connection? False: it was refused with StreamEnd."""
    client = connect(server, **kwargs)
    try:
        client.welcome()
    except (AssertionError, OSError, Closed):
        return False
    finally:
        client.close()
    return True


# ---- connections ----


def test_one_address_has_so_many_connections_and_others_come_in(make_server, connect):
    server = make_server(limits=STRICT + "max-connections-per-address = 3")
    mine = [connect(server, source="127.0.0.7").login(resource=f"r{i}") for i in range(3)]
    connect(server, source="127.0.0.7").expect_end(102)
    server.wait_log("listen: max-connections-per-address is reached: 127.0.0.7:")
    connect(server, "bob", source="127.0.0.8").login()
    assert mine[0].ping().inner.value == "ping"
    mine[0].close()
    eventually(lambda: gets_in(server, connect, source="127.0.0.7"))


def test_connections_without_login_are_limited_by_address_and_in_all(make_server, connect):
    server = make_server(limits=STRICT + "max-unauthenticated-per-address = 3\nmax-unauthenticated = 5")
    def wait_there(source):
        client = connect(server, source=source)
        client.welcome()  # the server has counted it: of two loops the router may hear in any order
        return client

    silent = [wait_there("127.0.0.7") for _ in range(3)]
    connect(server, source="127.0.0.7").expect_end(102)
    alice = connect(server, source="127.0.0.8").login()  # who is logged in counts no more
    silent += [wait_there("127.0.0.8") for _ in range(2)]
    connect(server, source="127.0.0.9").expect_end(102)
    server.wait_log("listen: max-unauthenticated is reached")
    assert alice.ping().inner.value == "ping"
    silent[-1].close()
    eventually(lambda: gets_in(server, connect, source="127.0.0.9"))


def test_trusted_addresses_are_exempt_from_limits_by_address(make_server, connect):
    server = make_server(limits="max-connections-per-address = 2\nmax-unauthenticated-per-address = 1")
    clients = [connect(server, source="127.0.0.7") for _ in range(5)]
    for client in clients:
        client.welcome()


def test_a_wrong_network_is_told_with_file_and_line(make_server):
    done = make_server(start=False, limits="trusted-addresses = 10.0.0.0/33").run("--check")
    assert done.returncode != 0 and "trusted-addresses: '10.0.0.0/33' is no address and no network" in done.stderr


def test_limits_on_connections_take_effect_with_a_reload(server, connect):
    assert gets_in(server, connect)
    alice = connect(server).login()
    set_limits(server, STRICT + "max-connections-per-address = 1")
    connect(server).expect_end(102)
    set_limits(server, "max-connections = 1")
    connect(server).expect_end(102)
    set_limits(server, "")
    assert gets_in(server, connect)
    assert alice.ping().inner.value == "ping"


# ---- memory and descriptors ----


def test_past_max_memory_new_connections_are_refused_and_others_go_on(server, connect):
    alice, bob = connect(server).login(), connect(server, "bob").login()
    set_limits(server, "max-memory = 1 MiB")
    server.wait_log(r"server: memory: \d+ KiB, max-memory is 1024 KiB: new connections are refused")
    connect(server).expect_end(102)
    message = alice.message("bob@example.org", "still here")
    assert alice.receipt(message)
    assert bob.expect(wire.CHAT).inner.body.value == "still here"
    set_limits(server, "")
    server.wait_log("server: memory: .*: new connections are taken again")
    connect(server).login(resource="again")


def test_memory_goes_back_to_the_system_when_most_connections_have_gone(server, connect):
    given_back = r"server: memory: most connections have gone: \d+ KiB, \d+ KiB when trimmed"
    clients = [connect(server) for _ in range(100)]
    clients[-1].welcome()
    time.sleep(1.1)  # connections are counted once a second
    for client in clients[60:]:
        client.close()
    time.sleep(1.1)
    assert not any(re.search(given_back, line) for line in server.lines), "most of them are still there"
    for client in clients[10:60]:
        client.close()
    server.wait_log(given_back)
    server.wait_log(given_back, 20, since=max(at for at, line in enumerate(server.lines) if "when trimmed" in line) + 1)
    assert gets_in(server, connect)


@pytest.mark.parametrize("threads", [0, 2])
def test_without_descriptors_it_refuses_politely_serves_on_and_accepts_again(make_server, connect, threads):
    server = make_server(start=False, server=f"io-threads = {threads}")
    server.inside = ["prlimit", "--nofile=120:120"]
    server.start()
    alice = connect(server).login()
    clients = [connect(server) for _ in range(150)]
    server.wait_log("listen: descriptors are running out: new connections are refused")
    refused = 0
    for client in clients:
        try:
            client.welcome()
        except (AssertionError, OSError):
            refused += 1
    assert 60 < refused < 120
    assert alice.ping().inner.value == "ping"
    assert alice.receipt(alice.message("bob@example.org", "on disk"))  # descriptors were left for what the server opens itself
    assert server.ctl("status").returncode == 0
    for client in clients:
        client.close()
    eventually(lambda: gets_in(server, connect))
    connect(server, "bob").login()


# ---- rates ----

RATES = "stanza-rate = 200\nrate-burst = 500ms\n"


def pings(first, count):
    return b"".join(wire.frame(wire.IQ, pb.IQMessage(key="PING", messageId=str(i))) for i in range(first, first + count))


@pytest.mark.parametrize("tls", [False, True])
def test_who_sends_more_than_stanza_rate_is_slowed_down_and_loses_nothing(make_server, connect, tls):
    server = make_server(limits=RATES)
    client = connect(server).login(tls=tls)
    other = connect(server, "bob").login()
    started = time.monotonic()
    client.send_bytes(pings(0, 500))
    assert other.ping().inner.value == "ping"
    assert time.monotonic() - started < 1
    for i in range(500):
        assert client.expect(wire.IQ).inner.messageId == str(i)
    # 100 of the burst at the most, the rest at 200 a second
    assert 1.9 < time.monotonic() - started < 8


def test_who_sends_more_than_byte_rate_is_slowed_down(make_server, connect):
    server = make_server(limits="byte-rate = 200 KiB\nrate-burst = 1s")
    client = connect(server).login(tls=False)
    started = time.monotonic()
    for i in range(6):  # in frames that gzip makes no smaller: 600 KiB in all
        client.send_bytes(wire.wrap(wire.message(wire.PRESENCE, pb.PresenceMessage(key="none", value="x" * 100_000)), 0))
    assert client.ping().inner.value == "ping"
    assert 1.8 < time.monotonic() - started < 8


def test_a_burst_within_rate_burst_is_not_slowed_down(make_server, connect):
    server = make_server(limits="stanza-rate = 100\nrate-burst = 10s")
    client = connect(server).login(tls=False)
    started = time.monotonic()
    client.send_bytes(pings(0, 900))
    for i in range(900):
        assert client.expect(wire.IQ).inner.messageId == str(i)
    assert time.monotonic() - started < 3


def test_who_stays_over_the_rate_is_ended_and_who_pauses_is_not(make_server, connect):
    server = make_server(limits=RATES + "rate-patience = 1s\nidle-timeout = 5s")
    flood, steady = connect(server).login(tls=False), connect(server, "bob").login(tls=False)
    started = time.monotonic()
    flood.send_bytes(pings(0, 5000))
    for _ in range(3):  # each is over the rate, and is half way back before the next
        steady.send_bytes(pings(0, 150))
        for i in range(150):
            assert steady.expect(wire.IQ).inner.messageId == str(i)
        time.sleep(0.6)
    assert flood.expect(wire.STREAM_END).inner.code == 102
    server.wait_log("ended with 102: it sends too much for too long")
    assert time.monotonic() - started < 8
    assert steady.ping().inner.value == "ping"


def test_empty_frames_count_as_well(make_server, connect):
    server = make_server(limits=RATES + "rate-patience = 0")
    client = connect(server).login(tls=False)
    started = time.monotonic()
    client.send_bytes(b"\0" * 500)
    assert client.ping().inner.value == "ping"
    assert time.monotonic() - started > 1.5


def test_rates_may_be_switched_off_by_a_reload_also_for_who_waits(make_server, connect):
    server = make_server(limits="stanza-rate = 1\nrate-burst = 5s")
    client = connect(server).login(tls=False)
    client.send_bytes(pings(0, 100))
    server.wait_log("conn: .*: slowed down")
    set_limits(server, "stanza-rate = 0\nbyte-rate = 0")
    for i in range(100):
        assert client.expect(wire.IQ).inner.messageId == str(i)


def test_a_slowed_connection_is_not_idle(make_server, connect):
    server = make_server(limits="stanza-rate = 10\nrate-burst = 2s\nidle-timeout = 500ms")
    client = connect(server).login(tls=False)
    client.send_bytes(pings(0, 50))
    for i in range(50):
        assert client.expect(wire.IQ).inner.messageId == str(i)
