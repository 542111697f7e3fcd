# SPDX-License-Identifier: MIT
"""Logging in, from the first byte to a ping."""
import base64
import json
import os
import re
import time

from stk import wire
from stk.client import RESOURCE
from stk.wire import pb

with open(os.path.join(wire.ROOT, "tests", "data", "capture.json"), encoding="utf-8") as _file:
    CAPTURE = json.load(_file)


def capture(name):
    return wire.prefix(bytes.fromhex(CAPTURE["frames"][name]))


def near_now(value, unit):
    return abs(value / unit - time.time()) < 30


def check_welcome(frame, user, domain, sockmod):
    assert (frame.sender, frame.to) == (f"{user}@{domain}",) * 2
    assert not frame.proto.HasField("options")
    inner = frame.inner
    assert (inner.domain, inner.version, inner.user, inner.sockmod) == (domain, "1.0", user, sockmod)
    assert inner.HasField("sockmod")


def check_bind(frame, full, message_id):
    assert (frame.sender, frame.to) == (full, full)
    assert frame.proto.HasField("options") and frame.proto.options == 0
    iq = frame.inner
    assert (iq.value, iq.messageId, iq.definedKey, iq.body.value) == ("bind", message_id, 80, full)
    assert not iq.HasField("key")
    assert [name for name, _ in frame.headers()] == [52, 54]
    assert near_now(int(frame.headers()[0][1]), 1) and near_now(iq.receivedTime, 1)
    assert re.fullmatch("[0-9a-f]{32}", frame.headers()[1][1])


def check_notice(frame, bare, full, category, data):
    assert (frame.sender, frame.to) == (bare, full)
    assert frame.proto.HasField("options") and frame.proto.options == 0
    presence = frame.inner
    assert (presence.key, presence.definedKey, presence.value, presence.messageId) == ("result", 7, "notify", "")
    assert presence.HasField("messageId")
    assert (presence.categoryType, presence.body.value) == (category, data)
    assert near_now(presence.receivedTime, 1)


def check_success(frame, bare, message_id):
    assert frame.signal == wire.SUCCESS, frame
    assert (frame.sender, frame.to) == (bare, bare)
    assert not frame.proto.HasField("options")
    inner = frame.inner
    assert (inner.code, inner.info, inner.body.value) == (0, "", "login sucess")
    assert inner.HasField("code") and inner.HasField("info")
    if message_id is not None:
        assert inner.msgId == message_id


def check_failure(frame, domain, reason):
    assert frame.signal == wire.FAILURE, frame
    assert (frame.sender, frame.to) == (domain, domain)
    assert not frame.proto.HasField("options")
    inner = frame.inner
    assert (inner.code, inner.error, inner.body.value) == (0, reason, "login failed")
    assert inner.HasField("code") and not inner.HasField("msgId")


def test_the_recorded_login_gets_the_recorded_answers(make_server, connect):
    server = make_server(domain="startalk.tech", users={"chao.zhang": "his pw"}, fast=False)
    client = connect(server, "chao.zhang")
    full = f"chao.zhang@startalk.tech/{RESOURCE.replace('PC64', 'Mac').replace('e85cbbb43c7f4a87acc919ba29c19a5e', '11cf67c0264244e7a842e595f6e28b61')}"

    client.send_bytes(capture("welcome"))
    check_welcome(client.next(), "chao.zhang", "startalk.tech", "TLS")
    client.send_bytes(capture("starttls"))
    proceed = client.next()
    assert proceed.signal == wire.PROCEED and proceed.sender == proceed.to
    assert proceed.sender in ("startalk.tech", "chao.zhang@startalk.tech")
    assert not proceed.proto.HasField("options") and proceed.proto.HasField("message") and proceed.proto.message == b""
    client.start_tls_bytes()
    client.send_bytes(capture("auth"))  # encrypted for another server's key
    check_failure(client.next(), "startalk.tech", "not-authorized")
    check_success(client.auth(client.rsa("his pw"), message_id="PBMSG_290711614599258867"), "chao.zhang@startalk.tech",
                  "PBMSG_290711614599258867")
    client.send_bytes(capture("bind"))
    check_bind(client.next(), full, "0585c17d30c84247b81d8fb86ad1bd99")
    check_notice(client.next(), "chao.zhang@startalk.tech", full, 3, '{"navversion":"10000"}')
    client.send_bytes(capture("presence"))
    check_notice(client.next(), "chao.zhang@startalk.tech", full, 9, '["P[Mac]"]')
    client.send_bytes(capture("ping"))
    pong = client.next()
    assert (pong.signal, pong.sender, pong.to) == (wire.IQ, "chao.zhang@startalk.tech", full)
    iq = pong.inner
    assert (iq.value, iq.messageId, iq.definedKey) == ("ping", "dd401c282d824e8eb8709500cfc5bf77", 80)
    assert not iq.HasField("key") and not iq.HasField("body") and near_now(iq.receivedTime, 1)
    client.quiet()


def test_login_without_tls_needs_rsa(server, connect):
    client = connect(server)
    check_welcome(client.welcome(), "alice", "example.org", "TLS")
    check_failure(client.auth(server.passwords["alice"]), "example.org", "not-authorized")
    server.wait_log(r"login: alice@example.org: refused: plain password outside TLS \(127\.0\.0\.1:\d+\)")
    check_success(client.auth(client.rsa(server.passwords["alice"])), "alice@example.org", "PBMSG_1")
    check_bind(client.bind(), f"alice@example.org/{RESOURCE}", "bind-1")
    check_notice(client.expect_notice(3), "alice@example.org", client.jid, 3, '{"navversion":"10000"}')


def test_welcome_bind_and_auth_in_one_segment_are_answered_in_order(server, connect):
    client = connect(server)
    welcome = wire.frame(wire.WELCOME, pb.WelcomeMessage(domain="example.org", version="1.0", user="alice"))
    key = base64.b64encode(b"\0alice\0" + client.rsa(server.passwords["alice"]).encode()).decode()
    auth = wire.frame(wire.AUTH, pb.AuthMessage(mechanism="PLAIN", authKey=key, msgId="m"))
    bind = wire.frame(wire.IQ, pb.IQMessage(key="BIND", messageId="b", value="R_1"))
    ping = wire.frame(wire.IQ, pb.IQMessage(key="PING", messageId="p"))
    client.send_bytes(welcome + auth + bind + ping)
    assert [client.next().signal for _ in range(5)] == [wire.WELCOME, wire.SUCCESS, wire.IQ, wire.PRESENCE, wire.IQ]


def test_a_login_that_arrives_byte_by_byte_is_the_same(server, connect):
    client = connect(server)
    for byte in wire.frame(wire.WELCOME, pb.WelcomeMessage(domain="example.org", version="1.0", user="alice")):
        client.send_bytes(bytes([byte]))
    assert client.next().signal == wire.WELCOME


def test_all_wrappings_are_read_at_any_size(server, connect):
    client = connect(server).login()
    for number, options in enumerate((0, 1, 2, 5)):
        iq = pb.IQMessage(key="PING", messageId=f"w{number}", namespace="x" * 400)
        client.send_bytes(wire.wrap(wire.message(wire.IQ, iq), options))
        assert client.expect(wire.IQ).inner.messageId == f"w{number}"


def test_user_names_fold_and_may_carry_the_domain(server, connect):
    for name in ("ALICE", "alice@example.org", "Alice@Example.ORG"):
        client = connect(server)
        client.welcome(user=name.split("@")[0])
        client.starttls()
        reply = client.auth(server.passwords["alice"], user=name)
        check_success(reply, "alice@example.org", "PBMSG_1")


def test_an_auth_without_id_gets_one_made_up(server, connect):
    client = connect(server)
    client.welcome()
    client.starttls()
    reply = client.auth(server.passwords["alice"], message_id=None)
    check_success(reply, "alice@example.org", None)
    assert reply.inner.msgId


def test_failures_leave_the_connection_open_for_another_try(server, connect):
    client = connect(server)
    client.welcome()
    client.starttls()
    for wrong, reason in ((dict(credential="no"), "not-authorized"), (dict(credential="", user="alice"), "not-authorized"),
                          (dict(credential="x", user="nobody"), "not-authorized"),
                          (dict(credential=server.passwords["alice"], authzid="bob"), "not-authorized"),
                          (dict(credential="x", mechanism="FOO"), "no-mechanism"),
                          (dict(credential="", key="!!!notbase64!!!"), "bad-protocol"),
                          (dict(credential="", key="b25seW9uZXBhcnQ="), "bad-protocol")):
        check_failure(client.auth(**wrong), "example.org", reason)
    check_success(client.auth(server.passwords["alice"]), "alice@example.org", "PBMSG_1")


def test_an_empty_resource_is_made_up(server, connect):
    for resource in ("", None):
        client = connect(server).login(available=False, resource=resource)
        assert re.fullmatch("alice@example.org/[0-9a-f]{32}", client.jid)


def test_bind_by_number_and_unicode_resources_work_and_a_second_bind_does_not(server, connect):
    client = connect(server)
    client.welcome()
    client.starttls()
    client.auth(server.passwords["alice"])
    client.send(wire.IQ, pb.IQMessage(definedKey=1, value="V_手机_é", messageId="b"))
    assert client.expect(wire.IQ).inner.body.value == "alice@example.org/V_手机_é"
    client.send(wire.IQ, pb.IQMessage(key="BIND", value="R2", messageId="b2"))
    again = client.expect(wire.IQ)
    assert again.inner.definedKey == 90 and again.headers()[0] == (42, "503")


def test_several_domains_are_served_each_with_its_own_users(make_server, connect):
    server = make_server(domain="example.org, example.net", users=None)
    server.sql("INSERT INTO users (username, domain, password) VALUES ('alice', 'example.net', 'net')")
    server.sql("INSERT INTO users (username, password) VALUES ('alice', 'org')")
    for domain, password in (("example.net", "net"), ("Example.ORG", "org")):
        client = connect(server, "alice", domain=domain)
        client.welcome()
        client.starttls()
        check_success(client.auth(password), f"alice@{domain.lower()}", "PBMSG_1")
        other = connect(server, "alice", domain=domain)
        other.welcome()
        other.starttls()
        check_failure(other.auth("org" if password == "net" else "net"), domain.lower(), "not-authorized")
