# SPDX-License-Identifier: MIT
"""Sessions over a transport that is a module, mechanisms with a challenge, domains of modules, what modules ask clients, and the hooks of a
session's opening and of what cannot be delivered."""
import re
import signal
import socket
import time

import pytest
from stk import plugin, wire
from stk.wire import pb


class Line:
    """A client of plugins/loopback.c."""

    def __init__(self, server):
        port = int(re.search(r"port (\d+)", server.wait_log("loopback: port")).group(1))
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        self.text = self.sock.makefile("r", encoding="utf-8")

    def put(self, line):
        self.sock.sendall(line.encode() + b"\n")

    def get(self, wanted, timeout=10):
        """The next line that matches; others are passed over."""
        self.sock.settimeout(timeout)
        seen = []
        while True:
            try:
                line = self.text.readline()
            except TimeoutError:
                line = ""
            assert line, f"no line {wanted!r}; seen {seen}"
            if re.search(wanted, line):
                return line.rstrip("\n")
            seen.append(line)

    def login(self, user, password, resource="line"):
        self.put(f"login {user} {password}")
        self.get(f"^login {user}$")
        self.put(f"bind {resource}")
        self.get("^iq type=result id=b ")
        self.put("presence")
        return self

    def close(self):
        self.text.close()
        self.sock.close()


@pytest.fixture
def lines(make_server, tmp_path):
    made = []

    def make(*modules, **kwargs):
        where = plugin.modules_dir(str(tmp_path / "modules"), "loopback.c", "room.c", "riddle.c")
        plugins = {f"60-{name}": f"[{name}]" for name in ("loopback", *modules)}
        server = make_server(server=where, plugins={**plugins, **kwargs.pop("plugins", {})}, **kwargs)

        def connect():
            made.append(Line(server))
            return made[-1]
        return server, connect

    yield make
    for line in made:
        line.close()


def test_a_client_of_another_transport_logs_in_and_chats_with_one_of_ours(lines, connect):
    server, line = lines()
    bob = line().login("bob", "bob's pw")
    alice = connect(server).login()
    said = alice.message("bob@example.org", "over to you")
    assert alice.receipt(said)
    got = bob.get("^message type=chat ")
    assert f"id={said} " in got and "from=alice@example.org" in got and got.endswith(" over to you")
    bob.put("say alice@example.org B-1 and back")
    assert bob.get("^message type=mstat ").startswith("message type=mstat id=B-1 ")
    frame = alice.expect(wire.CHAT)
    assert (frame.inner.messageId, frame.inner.body.value) == ("B-1", "and back")
    assert frame.sender.startswith("bob@example.org")
    bob.put("ping P-1")
    assert "type=result id=P-1 from=bob@example.org to=bob@example.org/line" in bob.get("^iq ")


def test_what_came_while_nobody_was_there_is_told_until_the_transport_says_it_is_with_the_client(lines, connect):
    server, line = lines()
    alice = connect(server).login()
    said = alice.message("bob@example.org", "for later")
    assert alice.receipt(said)
    bob = line().login("bob", "bob's pw")
    assert f"id={said} " in bob.get("^message type=chat ")
    bob.close()  # it never said that it has it
    server.wait_log("its transport has lost it")
    again = line().login("bob", "bob's pw")
    mark = re.search(r" mark=([1-9]\d*) ", again.get(f"^message type=chat id={said} ")).group(1)
    again.put(f"got {mark}")
    again.put("ping P-2")
    again.get("^iq type=result id=P-2 ")
    again.close()
    deadline = time.monotonic() + 10
    while server.sql("ATTACH 'STATE' AS a; SELECT 1".replace("STATE", server.path("state", "archive.db"))) and time.monotonic() < deadline:
        third = line().login("bob", "bob's pw")
        third.put("ping P-3")
        if "message" not in third.get("^(message|iq type=result id=P-3)"):
            return
        third.close()
    raise AssertionError("it is told again and again")


def test_a_wrong_password_is_refused_and_counted_on_every_transport(lines):
    server, line = lines()
    one = line()
    one.put("login bob wrong")
    assert one.get("^refused ") == "refused not-authorized"
    one.put("login bob bob's pw")
    one.get("^login bob$")
    server.wait_log(r"login: bob@example.org: refused: .*127\.0\.0\.1:7")


def test_a_transport_that_knows_its_peer_opens_the_session_logged_in(lines, connect):
    server, line = lines()
    one = line()
    one.put("trust bob")
    one.put("say alice@example.org X-1 before bind")  # dropped, as on every session
    one.put("bind there")
    one.get("^iq type=result id=b ")
    assert "bob@example.org/there" in server.ctl("sessions").stdout
    one.put("trust no body")  # a node that is no JID
    assert one.get("^error ") == "error Invalid argument"


def test_it_hears_why_a_session_ends_and_once(lines, connect):
    server, line = lines()
    one, two = line().login("bob", "bob's pw", "same"), line()
    two.login("bob", "bob's pw", "same")
    assert one.get("^end ") == "end 222 replaced"
    assert server.ctl("kick", "bob@example.org").returncode == 0
    assert re.match("end [0-9]+ ", two.get("^end "))
    alice = connect(server).login()
    three = line().login("bob", "bob's pw", "three")
    alice.message("bob@example.org", "burst")  # this one its transport cannot send
    assert three.get("^end ") == "end 102 its transport cannot send"


def test_its_sessions_end_when_it_is_unloaded_and_those_of_others_stay(lines, connect):
    server, line = lines()
    alice = connect(server).login()
    bob = line().login("bob", "bob's pw")
    server.plugin("60-loopback", None)
    server.signal(signal.SIGHUP)
    assert bob.get("^end ") == "end 111 its transport is unloaded"
    server.wait_log("loopback: unloaded")
    assert alice.ping().inner.value == "ping"
    assert "bob" not in server.ctl("sessions").stdout


def test_a_limit_on_connections_counts_all_of_them(lines, connect):
    server, line = lines(limits="max-connections = 2")
    alice = connect(server).login()
    line().login("bob", "bob's pw")
    third = line()
    third.put("login bob bob's pw")
    assert third.get("^error ") == "error Too many open files"
    assert alice.ping().inner.value == "ping"


def test_a_mechanism_may_have_a_challenge(lines, connect):
    server, line = lines("riddle")
    one = line()
    one.put("riddle bob")
    assert one.get("^challenge ") == "challenge 2+3"
    one.put("solve 6")
    assert one.get("^refused ") == "refused not-authorized"
    one.put("riddle bob")
    one.get("^challenge ")
    one.put("solve 5")
    one.get("^login bob$")
    two = line()
    two.put("riddle alice")
    two.get("^challenge ")
    two.close()  # in the middle of it
    alice = connect(server)  # the protocol of our own connections has no challenges
    alice.welcome()
    assert alice.auth("", mechanism="RIDDLE").signal == wire.FAILURE
    server.wait_log("Operation not supported")


# ---- domains ----

def test_a_module_serves_a_domain_whole(lines, connect):
    server, _ = lines("room")
    alice = connect(server).login()
    alice.message("room@conference.example.org", "hello, room")
    frame = alice.expect(wire.CHAT)
    assert frame.sender.startswith("room@conference.example.org") and frame.inner.body.value == "hello, room"
    server.wait_log("room: a module says: hello, room")
    answer = alice.iq(key="query", namespace="urn:example:room", to="room@CONFERENCE.example.org")
    assert answer.inner.definedKey == 80 and "a room" in str(answer.inner), answer
    # What the module does not claim there is nobody's, although the server's own modules have it elsewhere.
    ping = alice.iq(key="PING", definedKey=50, to="room@conference.example.org")
    assert ping.inner.definedKey == 90 and ping.headers()[0] == (42, "503")
    alice.message("room@conference.example.org", "pass", message_id="M-pass")
    refused = alice.expect(wire.ERROR)
    assert refused.inner.messageId == "M-pass"
    # And the handler is for that domain only.
    answer = alice.iq(key="query", namespace="urn:example:room", to="alice@example.org")
    assert answer.inner.definedKey == 90
    assert re.search(r"^  conference\.example\.org +room$", server.run("--plan").stdout, re.M)


def test_a_domain_has_one_owner(lines, tmp_path):
    server, _ = lines("room", start=False, domain="conference.example.org")
    done = server.run()
    assert done.returncode == 1
    assert "room: domain conference.example.org is served by the server already" in done.stderr


def test_a_domain_is_gone_with_its_module(lines, connect):
    server, _ = lines("room")
    alice = connect(server).login()
    server.plugin("60-room", None)
    server.signal(signal.SIGHUP)
    server.wait_log("room: unloaded")
    alice.message("room@conference.example.org", "anybody?")
    error = alice.expect(wire.ERROR)
    assert (42, "404") in error.headers() or any(value == "404" for _, value in error.headers())


# ---- questions to clients ----

def test_a_client_answers_what_a_module_asks(lines, connect):
    server, line = lines("room")
    alice = connect(server).login()
    bob = line().login("bob", "bob's pw")
    alice.message("room@conference.example.org", "ask bob@example.org/line")
    asked = bob.get("^iq type=get ")
    assert "from=example.org to=bob@example.org/line payload=query" in asked
    bob.put("answer " + re.search(r"id=(\S+)", asked).group(1))
    assert alice.expect(wire.CHAT).inner.body.value == "result 0"
    bob.put("answer " + re.search(r"id=(\S+)", asked).group(1))  # once more: answers nothing
    alice.quiet(0.2)


@pytest.mark.parametrize("number, told", [(80, "result 0"), (90, "error 0")])
def test_a_client_of_the_protocol_itself_may_answer(lines, connect, number, told):
    server, _ = lines("room")
    alice, bob = connect(server).login(), connect(server, "bob").login(resource="desk")
    alice.message("room@conference.example.org", "ask bob@example.org/desk")
    asked = bob.expect(wire.IQ)
    assert asked.inner.namespace == "urn:example:mood" and asked.sender == "example.org", asked
    bob.send(wire.IQ, pb.IQMessage(messageId="stk-other", definedKey=number, value="ping"), bob.jid)  # not what was asked
    bob.send(wire.IQ, pb.IQMessage(messageId=asked.inner.messageId, definedKey=number, value="ping"), bob.jid)
    assert alice.expect(wire.CHAT).inner.body.value == told


def test_no_answer_is_told_as_well_and_once(lines, connect):
    server, line = lines("room")
    alice, bob = connect(server).login(), connect(server, "bob").login(resource="desk")
    alice.message("room@conference.example.org", "ask bob@example.org/desk")
    late = bob.expect(wire.IQ).inner.messageId
    assert alice.expect(wire.CHAT).inner.body.value == "none Connection timed out"
    bob.send(wire.IQ, pb.IQMessage(messageId=late, definedKey=80, value="ping"), bob.jid)
    alice.message("room@conference.example.org", "ask bob@example.org/desk")
    bob.expect(wire.IQ)
    bob.close()
    assert alice.expect(wire.CHAT).inner.body.value == "none Transport endpoint is not connected"
    alice.message("room@conference.example.org", "ask bob@example.org/desk")
    assert any(value == "404" for _, value in alice.expect(wire.ERROR).headers())
    third = connect(server, "bob").login(resource="desk")
    alice.message("room@conference.example.org", "ask bob@example.org/desk")
    third.expect(wire.IQ)
    server.plugin("60-room", None)
    server.signal(signal.SIGHUP)
    assert alice.expect(wire.CHAT).inner.body.value == "none Operation canceled"


# ---- hooks ----

def test_a_module_ends_a_connection_before_it_says_anything(lines, connect):
    server, _ = lines("room")
    banned = connect(server, source="127.0.0.66")
    banned.expect_end(222)
    assert connect(server).login().ping()
    server.wait_log(r"room: opened: 127\.0\.0\.1:")


def test_a_module_takes_over_what_nobody_can_be_given(lines, connect):
    server, _ = lines("room", plugins={"35-archive": None})
    alice = connect(server).login()
    lost = alice.message("bob@example.org", "lost")
    assert alice.expect(wire.ERROR).inner.messageId == lost
    server.wait_log(r"undelivered: bob@example\.org: ")
    alice.message("bob@example.org", "keep it")
    alice.quiet(0.3)
    alice.message("nobody@example.org", "keep it")
    server.wait_log(r"undelivered: nobody@example\.org: No such file")
    alice.quiet(0.2)
