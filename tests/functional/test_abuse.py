# SPDX-License-Identifier: MIT
"""Abuse that no other file has: many against one, one against all, and what can be learnt from replies. Each prints the figure it holds."""
import selectors
import socket
import ssl
import statistics
import time

import pytest
from stk import wire
from stk.client import RESOURCE
from stk.server import program
from stk.wire import pb


def slowness():
    """How much longer things may take: a sanitizer makes everything slow."""
    with open(program("startalkd"), "rb") as file:
        text = file.read()
    return 6 if b"__asan_init" in text or b"__tsan_init" in text else 1


class Guessers:
    """RATE wrong logins a second from ADDRESSES loopback addresses, each on a connection of its own, until stop() or SECONDS."""

    def __init__(self, server, credential, addresses, rate):
        self.server, self.addresses, self.rate = server, addresses, rate
        auth = pb.AuthMessage(mechanism="PLAIN", authKey=credential)
        self.data = (wire.frame(wire.WELCOME, pb.WelcomeMessage(domain=server.domain, version="1.0", user="alice")) +
                     wire.frame(wire.AUTH, auth))
        self.selector, self.made, self.answered = selectors.DefaultSelector(), 0, 0
        self.began = time.monotonic()

    def turn(self):
        """Sends what is due by now, reads what has come."""
        while self.made < (time.monotonic() - self.began) * self.rate:
            sock = socket.create_connection(("127.0.0.1", self.server.port), 5, (f"127.0.1.{1 + self.made % self.addresses}", 0))
            sock.sendall(self.data)
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ, wire.Reader())
            self.made += 1
        for key, _ in self.selector.select(0):
            try:
                data = key.fileobj.recv(65536)
            except OSError:
                data = b""
            key.data.feed(data)
            frame = key.data.next()
            while frame and frame.signal != wire.FAILURE:
                assert frame.signal != wire.SUCCESS
                frame = key.data.next()
            self.answered += frame is not None
            if frame or not data:
                self.selector.unregister(key.fileobj)
                key.fileobj.close()

    def run(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.turn()
            time.sleep(0.002)

    def close(self):
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()


def test_200_guesses_a_second_from_50_addresses_keep_nobody_out(make_server, connect):
    """Neither who is logged in, nor that user at the own address, nor others; and a login stays quick."""
    server = make_server(fast=False)
    alice = connect(server, source="127.0.0.7").login()
    guessers = Guessers(server, alice.rsa("not it"), addresses=50, rate=200)
    times = []
    try:
        guessers.run(2)
        for i in range(10):
            guessers.run(0.2)
            client = connect(server, "bob", source="127.0.0.8")
            started = time.monotonic()
            client.login(resource=f"V_P[PC]_{i}", available=False)
            times.append(time.monotonic() - started)
        client = connect(server, source="127.0.0.7")
        client.login(resource="V_P[PC]_again", available=False)
        assert alice.ping().inner.value == "ping"
    finally:
        made, answered, lasted = guessers.made, guessers.answered, time.monotonic() - guessers.began
        guessers.close()
    assert made > 100 * lasted and answered > made / 3, "the guesses are not what was meant"
    median = statistics.median(times)
    print(f"{made / lasted:.0f} guesses/s: a login took {median * 1000:.0f} ms, {max(times) * 1000:.0f} ms at most")
    assert median < 0.2 * slowness()


def test_an_office_behind_one_address_is_not_locked_out_by_some_who_mistype(make_server, connect):
    server = make_server(login="address-tries = 6\nfailure-delay = 0")
    office = "127.0.0.7"
    connect(server, source=office).login()
    for i in range(20):
        client = connect(server, f"typo{i}", source=office)
        client.welcome()
        client.starttls()
        assert client.auth("wrong").signal == wire.FAILURE
    connect(server, "bob", source=office).login()


def test_neighbours_are_limited_together_and_who_logged_in_among_them_is_not(make_server, connect):
    server = make_server(login="prefix-tries = 12\nfailure-delay = 0")
    connect(server, source="127.0.3.200").login()

    def attempt(user, source, password):
        client = connect(server, user, source=source)
        client.welcome()
        client.starttls()
        return client.auth(password).signal

    for i in range(12):
        assert attempt(f"typo{i}", f"127.0.3.{i + 1}", "wrong") == wire.FAILURE
    assert attempt("bob", "127.0.3.99", server.passwords["bob"]) == wire.FAILURE
    assert attempt("bob", "127.0.3.200", server.passwords["bob"]) == wire.SUCCESS
    assert attempt("alice", "127.0.3.200", server.passwords["alice"]) == wire.SUCCESS
    assert attempt("bob", "127.0.4.99", server.passwords["bob"]) == wire.SUCCESS


def test_whether_a_user_exists_shows_neither_in_the_reply_nor_in_time(make_server, connect):
    server = make_server(users={"alice": "a", "off": "b", "bob": "c"}, login="failure-delay = 60ms\nfailure-delay-max = 60ms\nuser-tries = 0\naddress-tries = 0")
    server.sql("UPDATE users SET enabled = 0 WHERE username = 'off'")
    kinds = {"wrong password": "alice", "no such user": "nobody-at-all", "disabled": "off"}
    times, replies = {kind: [] for kind in kinds}, set()
    clients = {}
    for kind, user in kinds.items():
        clients[kind] = connect(server, user)
        clients[kind].welcome()
        clients[kind].starttls()
        clients[kind].auth("first")
    for _ in range(25):
        for kind, client in clients.items():
            started = time.monotonic()
            reply = client.auth("b")
            times[kind].append(time.monotonic() - started)
            replies.add((reply.signal, reply.sender, reply.to, reply.inner.SerializeToString()))
    assert len(replies) == 1 and next(iter(replies))[0] == wire.FAILURE
    medians = {kind: statistics.median(each) * 1000 for kind, each in times.items()}
    print("time of a refusal in ms, medians:", ", ".join(f"{kind} {ms:.1f}" for kind, ms in medians.items()))
    assert max(medians.values()) - min(medians.values()) < 10, medians


def cpu_seconds(server):
    with open(f"/proc/{server.process.pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_sender_of_a_byte_now_and_then_after_login_costs_next_to_nothing(server, connect):
    slow, other = connect(server).login(tls=False), connect(server, "bob").login()
    frame = wire.frame(wire.IQ, pb.IQMessage(key="PING", messageId="slow"))
    before = cpu_seconds(server)
    for byte in frame:
        slow.send_bytes(bytes([byte]))
        time.sleep(0.02)
    assert slow.expect(wire.IQ).inner.messageId == "slow"
    used = cpu_seconds(server) - before
    print(f"{len(frame)} single bytes took {used * 1000:.0f} ms of processor time")
    assert used < 0.3 * slowness()
    assert other.ping().inner.value == "ping"


def slowest_ping(client, seconds):
    slowest, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.monotonic()
        assert client.ping().inner.value == "ping"
        slowest = max(slowest, time.monotonic() - started)
        time.sleep(0.01)
    return slowest


@pytest.mark.parametrize("kind", ["notices", "presence"])
def test_a_storm_from_one_user_to_all_delays_nobody_for_long(make_server, connect, kind):
    """Far past stanza-rate: the rest of it waits where it came from."""
    server = make_server(users={**{"alice": "a", "bob": "b"}, **{f"u{i}": "u" for i in range(30)}},
                         plugins={"30-presence": "[presence]\nshare = domain"}, limits="stanza-rate = 500\nrate-burst = 1s\nrate-patience = 0")
    crowd = [connect(server, f"u{i}").login(tls=False, plain=False) for i in range(30)]
    storm, bob = connect(server).login(tls=False), connect(server, "bob").login(tls=False)
    storm.sock.settimeout(0.2)
    data = b""
    for i in range(60):
        for client in crowd:
            if kind == "notices":
                inner = pb.PresenceMessage(key="notify", definedKey=7, categoryType=7, body=pb.MessageBody(value="x" * 200))
                data += wire.frame(wire.PRESENCE, inner, storm.jid, client.bare)
            else:
                inner = pb.PresenceMessage(key="status", value="user_update_status", messageId="s")
                inner.body.headers.add(key="show", value=f"away{i}")
                inner.body.headers.add(key="priority", value="5")
                data += wire.frame(wire.PRESENCE, inner, storm.jid)
    try:
        storm.sock.sendall(data)
    except TimeoutError:
        pass  # the server does not read on: that is what is wanted
    slowest = slowest_ping(bob, 1.5)
    print(f"{kind}: the slowest ping of another took {slowest * 1000:.0f} ms")
    assert slowest < 0.5 * slowness()
    for client in crowd:
        assert client.ping().inner.value == "ping"


# ---- frames ----


def test_a_second_sender_in_a_frame_forges_nothing(server, connect):
    """Fields that come twice: the last counts, for the check as for what is passed on."""
    bob = connect(server, "bob").login()
    for first, last in (("bob@example.org", None), (None, "bob@example.org")):
        alice = connect(server).login()
        text = pb.XmppMessage(messageType=1, clientType=3, clientVersion=1, messageId=f"m-{first}", body=pb.MessageBody(value="hi"))
        one = pb.ProtoMessage(**{"from": first or alice.bare}).SerializeToString()
        rest = wire.message(wire.CHAT, text, last or alice.bare, "bob@example.org")
        alice.send_bytes(wire.wrap(one + rest, 0))
        if last:
            alice.expect_end(222)
        else:
            frame = bob.expect(wire.CHAT)
            assert frame.sender.split("/")[0] == "alice@example.org"
        alice.close()
    bob.quiet()


def test_fields_that_nobody_knows_are_passed_over_up_to_a_limit(server, connect):
    client = connect(server).login()
    ping = pb.IQMessage(key="PING", messageId="1").SerializeToString()
    unknown = b"\xa2\x06\x03abc" + b"\xa8\x06\x07" + b"\xad\x06\x01\x02\x03\x04"  # text, number, fixed
    envelope = pb.ProtoMessage(signalType=wire.IQ, message=ping + unknown).SerializeToString() + unknown
    client.send_bytes(wire.wrap(envelope, 0))
    assert client.expect(wire.IQ).inner.value == "ping"
    client.send_bytes(wire.wrap(pb.ProtoMessage(signalType=wire.IQ, message=ping + unknown * 5000).SerializeToString(), 0))
    client.expect_end(222)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_does_not_compress(server, connect, version):
    client = connect(server)
    client.welcome()
    client.starttls(minimum=version, maximum=version)
    assert client.tls.compression() is None
    assert client.auth(server.passwords["alice"]).signal == wire.SUCCESS
    assert client.bind(RESOURCE)
