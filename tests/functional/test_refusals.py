# SPDX-License-Identifier: MIT
"""What the server refuses, and how."""
import os
import signal
import struct
import time

import pytest
from stk import wire
from stk.client import Closed
from stk.wire import pb


def logged_in(server, connect, **kwargs):
    return connect(server).login(**kwargs)


def is_error(frame, code, sender=None, to=None):
    assert frame.inner.definedKey == 90 and not frame.inner.HasField("key"), frame
    assert frame.inner.body.value == "error_info"
    assert frame.headers()[0] == (42, code) and frame.headers()[1][0] == "data" and frame.headers()[1][1]
    if sender is not None:
        assert (frame.sender, frame.to) == (sender, to)
    return True


@pytest.mark.parametrize("domain, version", [("nosuch.host", "1.0"), ("example.org", "0.9"), ("", "1.0")])
def test_welcome_for_an_unknown_domain_or_version_ends_the_stream(server, connect, domain, version):
    client = connect(server)
    client.send(wire.WELCOME, pb.WelcomeMessage(domain=domain, version=version, user="alice"))
    client.expect_end(222)


@pytest.mark.parametrize("signal, inner", [(wire.IQ, pb.IQMessage(key="PING", messageId="1")), (wire.STARTTLS, pb.StartTLS()),
                                           (wire.AUTH, pb.AuthMessage(mechanism="PLAIN", authKey="AGEAYg==")),
                                           (wire.PRESENCE, pb.PresenceMessage(key="priority", value="5", definedKey=1))])
def test_anything_before_welcome_ends_the_stream(server, connect, signal, inner):
    client = connect(server)
    client.send(signal, inner)
    client.expect_end(222)


def test_a_second_welcome_ends_the_stream(server, connect):
    client = connect(server)
    client.welcome()
    client.send(wire.WELCOME, pb.WelcomeMessage(domain="example.org", version="1.0", user="alice"))
    client.expect_end(222)


def test_a_welcome_without_user_is_answered_by_the_domain(server, connect):
    client = connect(server)
    client.send(wire.WELCOME, pb.WelcomeMessage(domain="example.org", version="1.0", user=""), "@example.org")
    reply = client.expect(wire.WELCOME)
    assert (reply.sender, reply.to, reply.inner.user) == ("example.org", "example.org", "")


def test_iq_before_auth_and_before_bind_gets_503_and_messages_are_dropped(server, connect):
    client = connect(server)
    client.welcome()
    client.starttls()
    assert is_error(client.ping(), "503", "example.org", "example.org")
    client.send(wire.CHAT, pb.XmppMessage(messageId="m", body=pb.MessageBody(value="hi")), to="bob@example.org")
    assert client.auth(server.passwords["alice"]).signal == wire.SUCCESS
    assert is_error(client.ping(), "503")
    client.send(wire.CHAT, pb.XmppMessage(messageId="m", body=pb.MessageBody(value="hi")), to="bob@example.org")
    client.send(wire.PRESENCE, pb.PresenceMessage(key="priority", value="5", definedKey=1))
    client.bind()
    client.expect_notice(3)
    client.quiet()


@pytest.mark.parametrize("forged", ["bob@example.org", "alice@example.net", "alice@example.org/other", "example.org", "not a jid"])
def test_a_forged_from_ends_the_stream_in_any_frame(server, connect, forged):
    for signal, inner in ((wire.IQ, pb.IQMessage(key="PING", messageId="1")),
                          (wire.CHAT, pb.XmppMessage(messageId="m", body=pb.MessageBody(value="hi"))),
                          (wire.PRESENCE, pb.PresenceMessage(key="priority", value="5", definedKey=1))):
        client = logged_in(server, connect)
        client.send(signal, inner, forged, "alice@example.org")
        client.expect_end(222)


def test_a_forged_from_before_login_ends_the_stream(server, connect):
    client = connect(server)
    client.send(wire.WELCOME, pb.WelcomeMessage(domain="example.org", version="1.0", user="alice"), "bob@example.org")
    client.expect_end(222)
    client = connect(server)
    client.welcome()
    client.starttls()
    client.send_auth("x", sender="bob@example.org/x")
    client.expect_end(222)


def test_the_own_jid_is_accepted_bare_full_and_before_bind_with_any_resource(server, connect):
    client = connect(server)
    client.welcome()
    client.starttls()
    client.send_auth(server.passwords["alice"], sender="alice@example.org/whatever")
    assert client.expect(wire.SUCCESS)
    client.send(wire.IQ, pb.IQMessage(key="BIND", messageId="b", value="R"), "Alice@example.org/elsewhere")
    assert client.expect(wire.IQ).inner.value == "bind"
    for sender in ("alice@example.org", "ALICE@example.org/R", ""):
        client.send(wire.IQ, pb.IQMessage(key="PING", messageId="p"), sender)
        assert client.expect(wire.IQ).inner.value == "ping"


BROKEN = {
    "a length of 5 bytes": b"\x80\x80\x80\x80\x01",
    "a length of 4 continued bytes": b"\x80\x80\x80\x80",
    "bad gzip": wire.prefix(pb.ProtoHeader(options=1, message=b"no gzip").SerializeToString()),
    "gzip with bytes behind it": wire.prefix(pb.ProtoHeader(options=1, message=wire.gzip(b"\x10\x02") + b"x").SerializeToString()),
    "a header without message": wire.prefix(pb.ProtoHeader(options=5).SerializeToString()),
    "garbage": wire.prefix(b"\xff\xff\xff\xff"),
    "a truncated message": wire.wrap(b"\x10\x02\x2a\x7f\x01", 0),
    "an empty auth": wire.frame(wire.AUTH, pb.AuthMessage()),
    "invalid UTF-8": wire.wrap(wire.message(wire.IQ, pb.IQMessage(key="PING", messageId="abcd")).replace(b"abcd", b"ab\xff\xfe"), 0),
    "U+0000": wire.wrap(wire.message(wire.IQ, pb.IQMessage(key="PING", messageId="abcd")).replace(b"abcd", b"ab\x00d"), 0),
    "invalid UTF-8 in the envelope": wire.wrap(wire.message(wire.IQ, pb.IQMessage(key="PING", messageId="a"), to="xxxx").replace(b"xxxx", b"\xc0\x80xx"), 0),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_frame_ends_the_stream_before_and_after_login(server, connect, what):
    fresh = connect(server)
    fresh.welcome()
    fresh.send_bytes(BROKEN[what])
    fresh.expect_end(222)
    client = logged_in(server, connect)
    client.send_bytes(BROKEN[what])
    client.expect_end(222)


def test_frames_that_stand_for_nothing_are_ignored(server, connect):
    client = logged_in(server, connect)
    client.send_bytes(b"\x00\x00")
    for signal in (999, 3, 16, 128, 9, 11, 8, 140, 12, 20, 30, 141, 51):
        client.send(signal, pb.XmppMessage(messageId="m", body=pb.MessageBody(value="hi")), to="bob@example.org")
    client.send_bytes(wire.wrap(b"", 0))
    client.send(wire.IQ, pb.IQMessage(definedKey=80, value="ping", messageId="r"))
    client.send(wire.IQ, pb.IQMessage(definedKey=90, messageId="e"))
    client.send(wire.PRESENCE, pb.PresenceMessage(key="nosuch", value="x"))
    assert client.ping().inner.value == "ping"
    client.quiet()


def test_iq_keys_without_a_module_get_503_whatever_they_are(server, connect):
    client = logged_in(server, connect)
    for fields in (dict(definedKey=22), dict(key="GET_USER_MASK"), dict(key="ADD_PUSH"), dict(key="no_such"), dict(definedKey=777),
                   dict(key="query", namespace="urn:example:mine"), dict(key="USER_MUCS", definedKey=36)):
        assert is_error(client.iq(**fields), "503")


def test_requests_to_where_nobody_can_be_get_404(server, connect):
    client = logged_in(server, connect)
    bob = connect(server, "bob").login(resource="desk_1")
    assert is_error(client.iq(key="CREATE_MUC", value="room@conference.example.org"), "404")
    for to in ("x@elsewhere.net", "elsewhere.net", "nobody@example.org", "bob@example.org/gone"):
        assert is_error(client.ping(to=to), "404"), to
    for to in (None, "example.org", "bob@example.org", "BOB@Example.org", bob.jid, client.jid, client.bare):
        assert client.ping(to=to).inner.value == "ping", to
    assert is_error(client.ping(to="a@b@c"), "400")


def test_an_iq_without_id_is_answered_under_a_made_up_one(server, connect):
    client = logged_in(server, connect)
    client.send(wire.IQ, pb.IQMessage(key="PING", definedKey=50))
    reply = client.expect(wire.IQ)
    assert reply.inner.value == "ping" and reply.inner.messageId


def test_a_message_that_no_module_takes_comes_back_with_an_error(make_server, connect):
    client = logged_in(make_server(plugins={"36-message": None}), connect)
    message = pb.XmppMessage(messageType=1, clientType=3, clientVersion=1, messageId="m-1", body=pb.MessageBody(value="hi"))
    client.send(wire.CHAT, message, client.jid, "bob@example.org")
    back = client.expect(9)
    assert back.inner.messageId == "m-1" and ("errcode", "503") in back.headers()


def test_frames_over_the_limit_end_the_stream_before_anything_is_read(server, connect):
    client = connect(server)
    client.welcome()
    client.send_bytes(wire.varint(4097))
    client.expect_end(222)
    client = logged_in(server, connect)
    client.send_bytes(wire.varint(2 * 1024 * 1024) + b"x" * 100)
    client.expect_end(222)


def test_a_gzip_bomb_is_cut_at_the_frame_limit(server, connect):
    client = connect(server)
    client.welcome()
    client.send_bytes(wire.wrap(b"\0" * 100_000, 1))
    client.expect_end(222)
    client = logged_in(server, connect)
    client.send_bytes(wire.wrap(b"\0" * 300_000_000, 1))
    client.expect_end(222)


def test_deep_nesting_and_floods_of_headers_end_the_stream(server, connect):
    body = b"\x0a\x00"
    for _ in range(10_000):
        body = b"\x1a" + wire.varint(len(body)) + body
    deep = pb.IQMessage(key="PING", messageId="1").SerializeToString() + b"\x32" + wire.varint(len(body)) + body
    empty = b"\x0a\x00" * 1_000_000
    wide = pb.IQMessage(key="PING", messageId="1").SerializeToString() + b"\x32" + wire.varint(len(empty)) + empty
    for inner in (deep, wide):
        client = logged_in(server, connect)
        envelope = pb.ProtoMessage(signalType=wire.IQ, message=inner).SerializeToString()
        client.send_bytes(wire.wrap(envelope, 0))
        client.expect_end(222)


def parts(tag, payload, count):
    """COUNT fields TAG of PAYLOAD, in a row."""
    return (bytes([tag]) + wire.varint(len(payload)) + payload) * count


def nested(depth):
    """A MessageBody, DEPTH messages in all."""
    body = b""
    for _ in range(depth - 1):
        body = parts(0x1a, body, 1)
    return body


# The option, and a body that takes exactly its value, and one more; beside the body a frame has an IQMessage of three fields.
@pytest.mark.parametrize("option, low, high, body", [
    ("max-depth", 6, 8, lambda n: nested(n - 1)), ("max-headers", 20, 40, lambda n: parts(0x0a, b"", n)),
    ("max-parts", 20, 40, lambda n: parts(0x1a, b"", n - 1)), ("max-fields", 70, 90, lambda n: parts(0x12, b"x", n - 3))])
def test_what_a_frame_may_hold_is_set_by_options_that_hold_for_sessions_too(make_server, connect, option, low, high, body):
    server = make_server(limits=f"{option} = {low}")

    def send(client, count):
        inner = pb.IQMessage(key="PING", messageId="1").SerializeToString() + parts(0x32, body(count), 1)
        client.send_bytes(wire.wrap(pb.ProtoMessage(signalType=wire.IQ, message=inner).SerializeToString(), 0))

    stays, goes = logged_in(server, connect), logged_in(server, connect, resource="V_P[PC]_2")
    send(stays, low)
    assert stays.expect(wire.IQ).inner.value == "ping"
    send(goes, low + 1)
    goes.expect_end(222)
    with open(server.path("startalkd.conf"), encoding="utf-8") as file:
        text = file.read()
    with open(server.path("startalkd.conf"), "w", encoding="utf-8") as file:
        file.write(text.replace(f"{option} = {low}", f"{option} = {high}"))
    server.signal(signal.SIGHUP)
    server.wait_log("reload: done")
    send(stays, high)
    assert stays.expect(wire.IQ).inner.value == "ping"
    send(stays, high + 1)
    stays.expect_end(222)


def test_bytes_in_clear_behind_starttls_end_the_stream(server, connect):
    client = connect(server)
    client.welcome()
    starttls = wire.frame(wire.STARTTLS, pb.StartTLS())
    client.send_bytes(starttls + wire.frame(wire.IQ, pb.IQMessage(key="PING", messageId="1")))
    client.expect_end(222)


def test_clear_bytes_instead_of_a_handshake_end_the_connection(server, connect):
    client = connect(server)
    client.welcome()
    client.send(wire.STARTTLS, pb.StartTLS())
    client.expect(wire.PROCEED)
    client.send_bytes(wire.frame(wire.IQ, pb.IQMessage(key="PING", messageId="1")))
    with pytest.raises(Closed):
        while True:
            client._receive(time.monotonic() + 10)


def test_starttls_twice_and_auth_after_login_end_the_stream(server, connect):
    client = connect(server)
    client.welcome()
    client.starttls()
    client.send(wire.STARTTLS, pb.StartTLS())
    client.expect_end(222)
    client = logged_in(server, connect)
    client.send_auth(server.passwords["alice"])
    client.expect_end(222)


def test_auth_in_clear_where_tls_is_required_ends_the_stream(make_server, connect):
    server = make_server(listen="tls = required")
    client = connect(server)
    client.welcome()
    client.send_auth(client.rsa(server.passwords["alice"]))
    client.expect_end(222)
    connect(server).login()


def test_tls_off_offers_none_and_refuses_starttls(make_server, connect):
    server = make_server(listen="tls = off")
    client = connect(server)
    assert client.welcome().inner.sockmod == ""
    client.send(wire.STARTTLS, pb.StartTLS())
    client.expect_end(222)


def test_each_stage_has_its_time(make_server, connect):
    server = make_server(login="stream-timeout = 200ms\nauth-timeout = 400ms\nbind-timeout = 300ms")
    started = time.monotonic()
    connect(server).expect_end(102)
    client = connect(server)
    client.welcome()
    client.expect_end(102)
    client = connect(server)
    client.welcome()
    client.starttls()
    client.expect_end(102)
    client = connect(server)
    client.welcome()
    client.auth(client.rsa(server.passwords["alice"]))
    client.expect_end(102)
    assert 1.2 < time.monotonic() - started < 8


def test_random_bytes_never_bring_the_server_down(server, connect):
    for seed in range(30):
        client = connect(server)
        client.send_bytes(struct.pack(">I", seed) + os.urandom(200))
        client.close()
    logged_in(server, connect)
