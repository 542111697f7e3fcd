# SPDX-License-Identifier: MIT
"""One-to-one messages between two users with two devices each, without history (see test_archive.py for that)."""
import time

import pytest

from stk import wire
from stk.wire import pb

A1, A2, B1, B2 = "V[1]_P[PC64]_ID[a1]", "V[1]_P[iOS]_ID[a2]", "V[1]_P[Mac]_ID[b1]", "V[1]_P[Android]_ID[b2]"
ALICE, BOB = "alice@example.org", "bob@example.org"
ALL_TYPES = (wire.CHAT, wire.TYPING, wire.READMARK, wire.REVOKE, wire.HEADLINE, wire.SUBSCRIPTION, wire.WEBRTC, wire.CONSULT,
             wire.ENCRYPT)
WITHOUT_ARCHIVE = {"35-archive": None}


def settle(*clients):
    """Reads what logging in brought."""
    for client in clients:
        client.ping()


@pytest.fixture(params=["archive", "no archive"])
def four(request, make_server, connect):
    """alice and bob on two devices each."""
    server = make_server(plugins={} if request.param == "archive" else WITHOUT_ARCHIVE)
    clients = [connect(server, user).login(resource=resource, tls=False) for user, resource in
               (("alice", A1), ("alice", A2), ("bob", B1), ("bob", B2))]
    settle(*clients)
    return clients


def quiet(*clients):
    """Nothing has come: a ping is answered first. Messages to others may be on their way through the archive, so twice."""
    for _ in range(2):
        for client in clients:
            client.ids += 1
            client.send(wire.IQ, pb.IQMessage(key="PING", definedKey=50, messageId=f"quiet-{client.ids}"), client.jid)
            frame = client.next()
            assert frame.signal == wire.IQ and frame.inner.messageId == f"quiet-{client.ids}", frame


def is_refused(client, message_id, code, to=None):
    error = client.expect(wire.ERROR, where=lambda frame: frame.inner.messageId == message_id)
    assert ("errcode", code) in error.headers(), error
    assert error.to == client.bare and (to is None or error.sender == to)
    return error


def test_chat_reaches_both_devices_the_senders_other_device_and_is_receipted(four):
    alice, phone, bob, tablet = four
    before = int(time.time() * 1000)
    sent = alice.message(BOB, "你好 bob", kind=5, headers=[(3, '{"FileName":"报告"}'), (4, "[]"), (2, '{"cn":"consult"}')])
    receipt = alice.receipt(sent)
    assert (receipt.sender, receipt.to) == (alice.jid, ALICE)
    assert receipt.inner.messageType == 1 and receipt.inner.body.value == "" and receipt.headers() == [("errcode", "0")]
    stamp = receipt.inner.receivedTime
    assert before <= stamp <= int(time.time() * 1000)
    for device in (bob, tablet):
        got = device.expect(wire.CHAT)
        assert (got.sender, got.to) == (alice.jid, BOB)
        assert got.inner.messageId == sent and got.inner.body.value == "你好 bob" and got.inner.receivedTime == stamp
        assert (got.inner.messageType, got.inner.clientType, got.inner.clientVersion) == (5, 3, 200012)
        assert got.headers() == [(2, '{"cn":"consult"}'), (3, '{"FileName":"报告"}'), (4, "[]"), ("errcode", "0")]
    copy = phone.expect(wire.CHAT)
    assert (copy.sender, copy.to) == (BOB, phone.jid)
    assert copy.inner.messageId == sent and copy.inner.receivedTime == stamp
    assert copy.headers()[-2:] == [("errcode", "0"), (72, "true")]
    quiet(*four)


@pytest.mark.parametrize("signal, receipted, copied", [
    (wire.CONSULT, True, True), (wire.WEBRTC, True, True), (wire.ENCRYPT, True, True), (wire.HEADLINE, False, False),
    (wire.SUBSCRIPTION, False, False), (wire.TYPING, True, False)])
def test_every_type_has_its_receipt_and_copies_or_has_not(four, signal, receipted, copied):
    alice, phone, bob, tablet = four
    sent = alice.message(BOB, "text", signal)
    for device in (bob, tablet):
        assert device.expect(signal).inner.messageId == sent
    if receipted:
        alice.receipt(sent)
    if copied:
        assert phone.expect(signal).inner.messageId == sent
    quiet(*four)


def test_typing_without_text_is_delivered_and_not_receipted(four):
    alice, _, bob, tablet = four
    alice.message(BOB, "", wire.TYPING)
    for device in (bob, tablet):
        assert device.expect(wire.TYPING).inner.body.value == ""
    quiet(*four)


def test_consult_keeps_its_special_addresses(four):
    alice, _, bob, _ = four
    sent = alice.message(BOB, "q", wire.CONSULT, headers=[("qchatid", "4")], realto="bob@shop", realfrom="alice@shop")
    got = bob.expect(wire.CONSULT)
    assert got.inner.messageId == sent and (got.proto.realfrom, got.proto.realto) == ("alice@shop", "bob@shop")
    assert got.headers() == [("qchatid", "4"), ("errcode", "0")]


def test_a_full_jid_means_one_device_and_a_gone_one_the_user(four):
    alice, _, bob, tablet = four
    alice.message(tablet.jid, "to the tablet")
    got = tablet.expect(wire.CHAT)
    assert got.to == tablet.jid and got.inner.body.value == "to the tablet"
    quiet(bob)
    tablet.close()
    bob.expect_notice(9)
    sent = alice.message(tablet.jid, "still to the tablet")
    assert bob.expect(wire.CHAT, where=lambda frame: frame.inner.messageId == sent)


def test_only_the_highest_priority_gets_what_goes_to_the_bare_jid(four):
    alice, _, bob, tablet = four
    tablet.priority("1")
    settle(tablet)
    sent = alice.message(BOB)
    assert bob.expect(wire.CHAT).inner.messageId == sent
    quiet(tablet)
    bob.priority("0")
    settle(bob)
    sent = alice.message(BOB)
    assert tablet.expect(wire.CHAT).inner.messageId == sent
    quiet(bob)


def test_an_option_delivers_to_all_but_negative_priorities(make_server, connect):
    server = make_server(plugins={**WITHOUT_ARCHIVE, "36-message": "[message]\ndeliver-to = all"})
    alice = connect(server).login(tls=False)
    bob, tablet, silent = (connect(server, "bob").login(resource=one, tls=False) for one in (B1, B2, "V[1]_P[LINUX]_ID[b3]"))
    tablet.priority("1")
    silent.priority("-1")
    settle(bob, tablet, silent)
    sent = alice.message(BOB)
    for device in (bob, tablet):
        assert device.expect(wire.CHAT).inner.messageId == sent
    quiet(silent)


def test_the_types_with_own_copies_are_an_option(make_server, connect):
    server = make_server(plugins={**WITHOUT_ARCHIVE, "36-message": "[message]\ncopies = webrtc"})
    alice, phone = (connect(server).login(resource=one, tls=False) for one in (A1, A2))
    bob = connect(server, "bob").login(tls=False)
    settle(alice, phone, bob)
    alice.receipt(alice.message(BOB))
    alice.receipt(alice.message(BOB, signal=wire.WEBRTC))
    assert phone.expect(wire.WEBRTC)
    quiet(phone)


def test_a_wrong_type_among_the_copies_is_named(make_server):
    server = make_server(start=False, plugins={"36-message": "[message]\ncopies = chat, chatt"})
    done = server.run("--check")
    assert done.returncode == 1 and "chatt" in done.stderr and "36-message.conf" in done.stderr


def test_a_message_to_oneself_comes_once_to_each_device(four):
    alice, phone, bob, _ = four
    sent = alice.message(ALICE, "note to self")
    for device in (alice, phone):
        got = device.expect(wire.CHAT)
        assert (got.sender, got.to, got.inner.messageId) == (alice.jid, ALICE, sent)
    alice.receipt(sent)
    quiet(*four)


def test_without_to_a_message_goes_to_oneself(four):
    alice, phone, _, _ = four
    sent = alice.message(None, "note to self")
    assert phone.expect(wire.CHAT).inner.messageId == sent


def test_read_marks_go_to_the_partner_and_full_reads_to_own_devices(four):
    alice, phone, bob, tablet = four
    for read_type in (1, 3, 4, 6):
        sent = alice.mark(BOB, read_type, "m-1")
        alice.receipt(sent)
        for device in (bob, tablet):
            got = device.expect(wire.READMARK)
            assert got.inner.messageId == sent and got.headers() == [(5, str(read_type)), ("errcode", "0")]
        if read_type == 4:
            assert phone.expect(wire.READMARK).inner.messageId == sent
    for read_type in (0, 2):
        sent = alice.mark(ALICE, read_type, text='{"T": 1}' if read_type == 0 else '[{"id": "room", "t": 1}]')
        assert phone.expect(wire.READMARK).inner.messageId == sent
        alice.receipt(sent)
    quiet(*four)


@pytest.mark.parametrize("signal", ALL_TYPES)
def test_every_type_comes_back_from_where_nobody_can_be(four, signal):
    alice = four[0]
    for to in ("nobody@example.org", "x@elsewhere.net", "elsewhere.net"):
        is_refused(alice, alice.message(to, "x", signal, headers=[(5, "3")]), "404", to)
    is_refused(alice, alice.message("@bad", "x", signal), "400", "@bad")
    is_refused(alice, alice.message("example.org", "x", signal), "503", "example.org")
    quiet(*four)


def test_a_refused_message_comes_back_as_it_was(four):
    alice = four[0]
    sent = alice.message("nobody@example.org", "text", kind=7, headers=[(3, "extra")])
    back = is_refused(alice, sent, "404")
    assert back.inner.body.value == "text" and back.inner.messageType == 7 and (3, "extra") in back.headers()


@pytest.mark.parametrize("signal", [signal for signal in ALL_TYPES if signal != wire.TYPING])
def test_no_text_is_an_error(four, signal):
    is_refused(four[0], four[0].message(BOB, "", signal, headers=[(5, "3")]), "400")
    quiet(*four)


def test_errors_and_what_only_servers_send_are_not_answered(four):
    alice = four[0]
    for signal in (wire.ERROR, wire.MSTAT, wire.CARBON, wire.NOTE, 8, wire.COLLECTION, 12, 20, 30, 141):
        alice.message("nobody@example.org", "x", signal)
        alice.message(BOB, "x", signal)
    quiet(*four)


def test_a_forged_sender_ends_the_stream(four):
    alice, phone, bob, _ = four
    for client, forged in ((alice, "carol@example.org"), (phone, alice.jid)):
        client.message(BOB, sender=forged)
        client.expect_end(222)
    assert bob.ping()
    bob.quiet(0.1)


def test_a_client_cannot_claim_an_own_copy_or_an_error(four):
    alice, _, bob, _ = four
    sent = alice.message(BOB, headers=[(72, "true"), ("carbon_message", "true"), ("errcode", "406")])
    got = bob.expect(wire.CHAT)
    assert got.inner.messageId == sent and got.headers() == [("errcode", "0")]


def test_a_message_without_id_gets_one_that_the_receipt_tells(four):
    alice, _, bob, _ = four
    alice.message(BOB, message_id="")
    receipt = alice.expect(wire.MSTAT)
    assert receipt.inner.messageId and bob.expect(wire.CHAT).inner.messageId == receipt.inner.messageId


def test_what_is_not_kept_comes_back_when_nobody_is_there(make_server, connect):
    server = make_server(plugins=WITHOUT_ARCHIVE)
    alice = connect(server).login(tls=False)
    for signal in (wire.CHAT, wire.CONSULT, wire.WEBRTC, wire.ENCRYPT, wire.HEADLINE, wire.SUBSCRIPTION):
        is_refused(alice, alice.message(BOB, "x", signal), "503", BOB)
    alice.message(BOB, "", wire.TYPING)
    quiet(alice)


def test_order_is_kept_whatever_the_types(four):
    alice, phone, bob, tablet = four
    sent = []
    for i in range(300):
        signal = (wire.CHAT, wire.TYPING, wire.ENCRYPT, wire.CONSULT, wire.READMARK)[i % 5]
        text = '[{"id":"none"}]' if signal == wire.READMARK else f"text {i}"
        sent.append((signal, alice.message(BOB, text, signal, headers=[(5, "3")] if signal == wire.READMARK else ())))
    for device in (bob, tablet):
        for signal, message_id in sent:
            got = device.next()
            assert (got.signal, got.inner.messageId) == (signal, message_id)
    receipts = [alice.next().inner.messageId for _ in sent]
    assert receipts == [message_id for _, message_id in sent]


def test_unicode_and_a_mebibyte_pass_unchanged_both_ways(four):
    alice, phone, bob, _ = four
    for text in ("🎉 さくら é \u202e <&>'\" \n\t", "长" * 5000, "x" * (1024 * 1024), "\U0001f600" * (256 * 1024)):
        sent = alice.message(BOB, text, headers=[(3, "🎉"), ("私の", "値")])
        got = bob.expect(wire.CHAT)
        assert got.inner.messageId == sent and got.inner.body.value == text
        assert (3, "🎉") in got.headers()
        assert phone.expect(wire.CHAT).inner.body.value == text


def test_numbers_of_content_kinds_that_nobody_knows_are_kept(four):
    alice, _, bob, _ = four
    for kind in (0, -11, 2, 268435457, 2147483647, -2147483648, 424242):
        alice.message(BOB, kind=kind)
        assert bob.expect(wire.CHAT).inner.messageType == kind
