# SPDX-License-Identifier: MIT
"""What the archive keeps, pushes and answers. Rows are looked at with the sqlite3 command, as an operator would."""
import base64
import json
import os
import signal
import socket
import subprocess
import time

import pytest

from stk import wire
from stk.server import program
from stk.wire import pb

A1, A2, B1, B2 = "V[1]_P[PC64]_ID[a1]", "V[1]_P[iOS]_ID[a2]", "V[1]_P[Mac]_ID[b1]", "V[1]_P[Android]_ID[b2]"
ALICE, BOB = "alice@example.org", "bob@example.org"
HISTORY = "startalk:history"


def rows(server, sql):
    """Rows of archive.db, each a list of texts."""
    done = subprocess.run(["sqlite3", "-cmd", ".timeout 5000", server.path("state", "archive.db"), sql], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return [line.split("|") for line in done.stdout.splitlines()]


def flag(server, message_id):
    return rows(server, f"SELECT flag FROM messages WHERE id = '{message_id}'")[0][0]


def wait_flag(server, message_id, wanted):
    deadline = time.monotonic() + 10
    while flag(server, message_id) != wanted:
        assert time.monotonic() < deadline, f"{message_id} has flag {flag(server, message_id)}"
        time.sleep(0.01)


def send_all(client, to, texts):
    """Sends without waiting in between, then reads all receipts. Returns the ids."""
    sent = [client.message(to, text) for text in texts]
    for one in sent:
        client.receipt(one)
    return sent


def chats(client, count):
    return [client.expect(wire.CHAT) for _ in range(count)]


def is_refused(client, message_id, code):
    error = client.expect(wire.ERROR, where=lambda frame: frame.inner.messageId == message_id)
    assert ("errcode", code) in error.headers(), error


def history(client, partner=BOB, **attributes):
    """The answer: the query's attributes, and (attributes, text) of each message."""
    iq = pb.IQMessage(namespace=HISTORY, messageId=f"h{time.monotonic_ns()}")
    attributes = {"with": partner, **attributes}
    for name, value in attributes.items():
        if value is not None:
            iq.body.headers.add(key=name, value=str(value))
    client.send(wire.IQ, iq, client.jid)
    answer = client.expect(wire.IQ, where=lambda frame: frame.inner.messageId == iq.messageId)
    if answer.inner.definedKey == 90:
        return dict(answer.headers())[42], None
    assert answer.inner.definedKey == 80 and answer.inner.namespace == HISTORY and answer.inner.value == "query"

    def attrs(body):
        return {{30: "type", 50: "cdata", 3: "extendInfo"}.get(h.definedKey, h.key): h.value for h in body.headers}
    return attrs(answer.inner.body), [attrs(body) for body in answer.inner.bodys]


@pytest.fixture
def pair(server, connect):
    return connect(server).login(resource=A1, tls=False), connect(server, "bob").login(resource=B1, tls=False)


# ---- what waits ----

def test_messages_to_an_offline_user_wait_and_come_in_order_as_they_were(server, connect):
    alice = connect(server).login(resource=A1, tls=False)
    first = alice.message("BOB@Example.org", "1 你好", kind=5, headers=[(3, '{"FileName":"报告"}'), (4, "[]"), ("x-odd", "é"), ("x-odd2", "")])
    stamp = alice.receipt(first).inner.receivedTime
    second = alice.message(f"{BOB}/gone", "2", wire.CONSULT, headers=[("qchatid", "4")], realto="bob@shop", realfrom="a@shop")
    alice.receipt(second)
    rest = send_all(alice, BOB, [str(i) for i in range(3, 250)])
    assert rows(server, "SELECT count(*), min(flag), max(flag) FROM messages") == [["249", "0", "0"]]
    bob = connect(server, "bob").login(resource=B1, tls=False)
    got = bob.expect(wire.CHAT)
    assert (got.sender, got.to, got.inner.messageId, got.inner.body.value) == (alice.jid, "BOB@Example.org", first, "1 你好")
    assert (got.inner.messageType, got.inner.clientType, got.inner.clientVersion, got.inner.receivedTime) == (5, 3, 200012, stamp)
    assert got.headers() == [(3, '{"FileName":"报告"}'), (4, "[]"), ("errcode", "0"), ("x-odd", "é"), ("x-odd2", "")]
    got = bob.expect(wire.CONSULT)
    assert (got.to, got.inner.messageId, got.proto.realfrom, got.proto.realto) == (f"{BOB}/gone", second, "a@shop", "bob@shop")
    assert got.headers() == [("qchatid", "4"), ("errcode", "0")]
    assert [frame.inner.messageId for frame in chats(bob, len(rest))] == rest
    bob.ping()
    bob.ping()
    wait_flag(server, rest[-1], "1")
    assert rows(server, "SELECT DISTINCT flag FROM messages") == [["1"]]
    again = connect(server, "bob").login(resource=B2, tls=False)
    again.ping()
    again.quiet(0.1)


def test_what_a_dead_connection_may_not_have_got_comes_again(server, connect):
    alice = connect(server).login(resource=A1, tls=False)
    sent = send_all(alice, BOB, "abc")
    bob = connect(server, "bob").login(resource=B1, tls=False)
    assert [frame.inner.messageId for frame in chats(bob, 3)] == sent
    bob.close()  # it has read them, but the server cannot know
    server.wait_log("session: bob@example.org/.*: .*connection|closed by the peer")
    bob = connect(server, "bob").login(resource=B2, tls=False)
    assert [frame.inner.messageId for frame in chats(bob, 3)] == sent
    bob.ping()
    bob.ping()
    wait_flag(server, sent[2], "1")


def test_a_live_message_counts_as_delivered_once_the_client_speaks_again(server, pair):
    alice, bob = pair
    sent = send_all(alice, BOB, ["x"])[0]
    bob.expect(wire.CHAT)
    assert flag(server, sent) == "0"
    bob.ping()
    bob.ping()
    wait_flag(server, sent, "1")


def test_both_devices_get_what_waits(server, connect):
    alice = connect(server).login(resource=A1, tls=False)
    sent = send_all(alice, BOB, "abc")
    devices = [connect(server, "bob").login(resource=one, tls=False) for one in (B1, B2)]
    for device in devices:
        assert [frame.inner.messageId for frame in chats(device, 3)] == sent


def test_a_device_of_negative_priority_gets_what_waits_when_it_rises(server, connect):
    alice = connect(server).login(resource=A1, tls=False)
    bob = connect(server, "bob").login(resource=B1, tls=False, available=False)
    bob.priority("-1")
    bob.ping()
    sent = send_all(alice, BOB, "ab")
    bob.ping()
    bob.quiet(0.1)
    bob.priority("0")
    assert [frame.inner.messageId for frame in chats(bob, 2)] == sent
    bob.priority("-1")  # what came is not confirmed yet and does not come a second time
    bob.priority("3")
    sent = send_all(alice, BOB, "c")
    assert [frame.inner.messageId for frame in chats(bob, 1)] == sent
    bob.ping()
    bob.quiet(0.1)


def test_what_came_by_full_jid_is_not_pushed_to_the_same_device(server, pair):
    alice, bob = pair
    for _ in range(5):
        bob.priority("-1")
        bob.ping()
        sent = alice.message(bob.jid)
        assert bob.expect(wire.CHAT).inner.messageId == sent
        bob.priority("3")  # at once: the server cannot know yet that it came
        bob.expect_notice(9)
        bob.quiet(0.1)


def test_pushing_can_be_switched_off(make_server, connect):
    server = make_server(plugins={"35-archive": "[archive]\npush-offline = off"})
    alice = connect(server).login(resource=A1, tls=False)
    waiting = send_all(alice, BOB, "a")
    bob = connect(server, "bob").login(resource=B1, tls=False)
    sent = send_all(alice, BOB, "b")
    assert bob.expect(wire.CHAT).inner.messageId == sent[0]
    assert flag(server, waiting[0]) == "0"


def test_only_the_newest_are_pushed_when_there_is_a_limit(make_server, connect):
    server = make_server(plugins={"35-archive": "[archive]\npush-offline-limit = 150"})
    alice = connect(server).login(resource=A1, tls=False)
    sent = send_all(alice, BOB, [str(i) for i in range(160)])
    bob = connect(server, "bob").login(resource=B1, tls=False)
    assert [frame.inner.messageId for frame in chats(bob, 150)] == sent[10:]
    bob.quiet(0.1)


def noise():
    """6 KiB that gzip does not make small; a thousand of them are more than the kernel takes for a connection."""
    return base64.b64encode(os.urandom(4608)).decode()


SMALL_QUEUE = "max-send-queue = 512 KiB"


def test_a_slow_reader_gets_thousands_in_order_without_a_growing_queue(make_server, connect):
    server = make_server(limits=SMALL_QUEUE)
    alice = connect(server).login(resource=A1, tls=False)
    sent = []
    for _ in range(10):
        sent += send_all(alice, BOB, [noise() for _ in range(200)])
        sent += send_all(alice, BOB, ["small" for _ in range(300)])
    bob = connect(server, "bob").login(resource=B1, tls=False)
    time.sleep(1)  # all of it would be several times the queue
    live = send_all(alice, BOB, [f"live {i}" for i in range(300)])
    mark = alice.mark(BOB, 3, "none")
    alice.receipt(mark)
    alice.message(BOB, "typing", wire.TYPING)
    assert [frame.inner.messageId for frame in chats(bob, 5300)] == sent + live
    assert bob.next().inner.messageId == mark
    assert bob.next().signal == wire.TYPING
    last = send_all(alice, BOB, ["last"])[0]
    assert bob.next().inner.messageId == last
    bob.ping()
    bob.ping()
    wait_flag(server, last, "1")
    assert rows(server, "SELECT count(*) FROM messages WHERE flag = 0") == [["0"]]


def test_what_waits_for_a_slow_device_is_not_lost_when_another_was_faster(make_server, connect):
    server = make_server(limits=SMALL_QUEUE)
    alice = connect(server).login(resource=A1, tls=False)
    sent = send_all(alice, BOB, [noise() for _ in range(2000)])
    fast = connect(server, "bob").login(resource=B2, tls=False)
    slow = connect(server, "bob").login(resource=B1, tls=False)
    live = send_all(alice, BOB, [f"live {i}" for i in range(50)])
    fast.expect(wire.CHAT, where=lambda frame: frame.inner.messageId == live[-1])
    fast.ping()
    fast.ping()
    wait_flag(server, live[-1], "1")
    got = []
    while got[-1:] != live[-1:]:
        got.append(slow.expect(wire.CHAT).inner.messageId)
    assert got[-50:] == live
    assert len(got) < 2050, "this test wants to see a device that is behind"
    assert got[:-50] == [one for one in sent if one in set(got)]


def test_live_messages_never_overtake_what_waits(server, connect):
    """Logging in again and again while messages flow: each session sees a part of the stream without a gap."""
    alice = connect(server).login(resource=A1, tls=False)
    sent, seen = [], []
    for turn in range(8):
        sent += [alice.message(BOB, f"{turn}.{i}") for i in range(40)]
        bob = connect(server, "bob").login(resource=B1, tls=False)
        sent += [alice.message(BOB, f"{turn}.{i}") for i in range(40, 80)]
        got = []
        while got[-1:] != sent[-1:]:
            got.append(bob.expect(wire.CHAT).inner.messageId)
        assert got == sent[sent.index(got[0]):]
        assert got[0] in seen or sent.index(got[0]) == len(seen)
        seen = list(sent)
        bob.close()


# ---- unique ----

def test_a_resend_is_receipted_with_the_first_time_and_delivered_once(server, pair):
    alice, bob = pair
    first = alice.receipt(alice.message(BOB, "text", message_id="m-1"))
    assert bob.expect(wire.CHAT).inner.messageId == "m-1"
    again = alice.receipt(alice.message(BOB, "text", message_id="m-1"))
    assert again.inner.receivedTime == first.inner.receivedTime
    bob.ping()
    bob.quiet(0.1)
    assert rows(server, "SELECT count(*) FROM messages") == [["1"]]
    is_refused(alice, alice.message(BOB, "other text", message_id="m-1"), "409")
    is_refused(alice, alice.message(ALICE, "text", message_id="m-1"), "409")
    bob.receipt(bob.message(ALICE, "text", message_id="m-1"))
    assert alice.expect(wire.CHAT).inner.messageId == "m-1"
    assert rows(server, "SELECT sender, recipient, body FROM history ORDER BY seq") == [[ALICE, BOB, "text"], [BOB, ALICE, "text"]]


# ---- revoking ----

def test_a_revoked_message_becomes_the_notice_and_its_original_is_kept(server, pair):
    alice, bob = pair
    sent = send_all(alice, BOB, ["secret"])[0]
    bob.expect(wire.CHAT)
    alice.receipt(alice.revoke(BOB, sent))
    notice = bob.expect(wire.REVOKE)
    assert notice.inner.messageId == sent and notice.inner.messageType == -1
    assert rows(server, "SELECT type, kind, state FROM history") == [["revoke", "-1", "undelivered"]]
    assert rows(server, "SELECT body, type, kind FROM revoked") == [["secret", "6", "1"]]
    alice.receipt(alice.revoke(BOB, sent))  # again is no error
    assert bob.expect(wire.REVOKE).inner.messageId == sent
    again = alice.receipt(alice.message(BOB, "secret", message_id=sent))  # nor is a late re-send of the original
    assert again
    bob.ping()
    bob.quiet(0.1)
    assert "secret" not in str(rows(server, "SELECT * FROM messages"))


def test_who_was_offline_gets_the_notice_in_place_of_the_message(server, connect):
    alice = connect(server).login(resource=A1, tls=False)
    before, secret, behind = send_all(alice, BOB, ["before", "secret", "behind"])
    alice.receipt(alice.revoke(BOB, secret))
    bob = connect(server, "bob").login(resource=B1, tls=False)
    assert bob.expect(wire.CHAT).inner.messageId == before
    notice = bob.next()
    assert (notice.signal, notice.inner.messageId, notice.inner.messageType, notice.sender) == (wire.REVOKE, secret, -1, alice.jid)
    assert secret in notice.inner.body.value and dict(notice.headers())[3] == notice.inner.body.value
    assert bob.next().inner.messageId == behind


def test_only_the_author_may_revoke_and_only_in_time(make_server, connect):
    server = make_server(users={"alice": "a", "bob": "b", "carol": "c"}, plugins={"35-archive": "[archive]\nrevoke-window = 500ms"})
    alice, bob, carol = (connect(server, user).login(resource=A1, tls=False) for user in ("alice", "bob", "carol"))
    sent = send_all(alice, BOB, ["mine"])[0]
    bob.expect(wire.CHAT)
    is_refused(bob, bob.revoke(ALICE, sent), "403")
    body = f'{{"messageId": "{sent}", "fromId": "{ALICE}"}}'
    is_refused(carol, carol.message(BOB, body, wire.REVOKE, "r-1", -1, [(3, body)]), "403")
    is_refused(alice, alice.revoke("carol@example.org", sent), "404")
    is_refused(alice, alice.revoke(BOB, "nosuch"), "404")
    time.sleep(0.6)
    is_refused(alice, alice.revoke(BOB, sent), "403")
    for client in (bob, carol):
        client.ping()
        client.quiet(0.1)
    assert rows(server, "SELECT body FROM messages") == [["mine"]] and rows(server, "SELECT * FROM revoked") == []


def test_a_revocation_names_its_message_in_the_text_or_by_its_own_id(server, pair):
    alice, bob = pair
    first, second = send_all(alice, BOB, "ab")
    alice.receipt(alice.message(BOB, f'{{"messageId": "{first}"}}', wire.REVOKE, "r-1", -1))
    alice.receipt(alice.message(BOB, "[revoked]", wire.REVOKE, second, -1))
    assert rows(server, "SELECT id, type FROM messages ORDER BY seq") == [[first, "14"], [second, "14"]]
    assert rows(server, "SELECT body FROM revoked ORDER BY seq") == [["a"], ["b"]]


# ---- read marks ----

def test_marks_raise_flags_of_ones_own_messages_and_never_lower_them(server, pair):
    alice, bob = pair
    one, two, three = send_all(alice, BOB, "123")
    chats(bob, 3)
    alice.receipt(alice.mark(BOB, 4, one, two, three))  # the sender's word counts for nothing
    assert [flag(server, one) for one in (one, two, three)] == ["0", "0", "0"]
    bob.receipt(bob.mark(ALICE, 3, one, "nosuch", two))
    assert [flag(server, one) for one in (one, two, three)][:2] == ["1", "1"]
    bob.receipt(bob.mark(ALICE, 4, one))
    bob.receipt(bob.mark(BOB, 1, two))  # to the own JID it means the same
    assert [flag(server, one) for one in (one, two)] == ["3", "3"]
    bob.receipt(bob.mark(ALICE, 3, one, two))
    assert [flag(server, one) for one in (one, two)] == ["3", "3"]
    bob.receipt(bob.mark(BOB, 2, text='[{"id": "room", "t": 1}]'))
    bob.receipt(bob.mark(ALICE, 6, three))
    assert flag(server, three) != "3"


def test_all_up_to_a_time_is_read_from_the_partner_or_from_all(make_server, connect):
    server = make_server(users={"alice": "a", "bob": "b", "carol": "c"})
    alice, carol = (connect(server, user).login(resource=A1, tls=False) for user in ("alice", "carol"))
    bob = connect(server, "bob").login(resource=B1, tls=False, available=False)
    old = alice.receipt(alice.message(BOB, "old", message_id="old")).inner.receivedTime
    carol.receipt(carol.message(BOB, "hers", message_id="hers"))
    time.sleep(0.005)
    alice.receipt(alice.message(BOB, "new", message_id="new"))
    bob.receipt(bob.mark(ALICE, 0, text=f'{{"T": {old}}}'))
    assert [flag(server, one) for one in ("old", "hers", "new")] == ["3", "0", "0"]
    bob.receipt(bob.mark(BOB, 0, text=f'{{"domain": "example.org", "id": "alice", "time": {old - 1}}}'))
    assert [flag(server, one) for one in ("old", "hers", "new")] == ["3", "0", "0"]
    bob.receipt(bob.mark(BOB, 0, text=f'[{{"t": {int(time.time() * 1000)}}}]'))
    assert [flag(server, one) for one in ("old", "hers", "new")] == ["3", "3", "3"]


def test_a_mark_of_thousands_is_one_mark(server, connect):
    alice = connect(server).login(resource=A1, tls=False)
    bob = connect(server, "bob").login(resource=B1, tls=False, available=False)
    sent = []
    for _ in range(4):
        sent += send_all(alice, BOB, ["x"] * 500)
    bob.receipt(bob.mark(ALICE, 4, *sent))
    assert rows(server, "SELECT count(*) FROM messages WHERE flag = 3") == [["2000"]]


@pytest.mark.parametrize("read_type, text", [
    (4, "no JSON"), (4, '{"id": "x"}'), (3, '[{"id": 1}]'), (1, '["x"]'), (0, "[]"), (0, '{"T": "soon"}'), (0, "x")])
def test_marks_that_make_no_sense_are_refused(pair, read_type, text):
    alice, _ = pair
    is_refused(alice, alice.mark(BOB, read_type, text=text), "400")


# ---- history ----

def test_an_empty_history_is_complete(pair):
    alice, _ = pair
    for partner in (BOB, ALICE, "nobody@example.org", "BOB@example.org/any"):
        assert history(alice, partner) == ({"count": "0", "complete": "true"}, [])


@pytest.mark.parametrize("attributes", [
    {"partner": None}, {"partner": ""}, {"partner": "@"}, {"limit": "0"}, {"limit": "101"}, {"limit": "many"}, {"before": "-1"},
    {"after": "x"}, {"before": "99999999999999999999"}, {"cursor": ""}, {"cursor": "1"}, {"cursor": "1-2-3"}, {"cursor": "x-y"}])
def test_bad_queries_are_refused(pair, attributes):
    assert history(pair[0], **attributes) == ("400", None)


def test_history_pages_in_both_directions_without_gap_or_overlap(server, pair):
    alice, bob = pair
    sent = []
    for i in range(15):
        sent += send_all(alice, BOB, [f"a{i}"]) if i % 3 else send_all(bob, ALICE, [f"b{i}"])
    for client, partner in ((alice, BOB), (bob, f"{ALICE}/x")):
        newest, messages = history(client, partner, limit=4)
        assert newest["count"] == "4" and newest["complete"] == "false"
        assert [one["id"] for one in messages] == sent[-4:]
        assert [one["cdata"] for one in messages] == ["a11", "b12", "a13", "a14"]
        found, cursor = messages, newest["next"]
        while cursor:
            page, messages = history(client, partner, limit=4, cursor=cursor)
            found, cursor = messages + found, page.get("next")
        assert page["complete"] == "true" and [one["id"] for one in found] == sent
        page, messages = history(client, partner, limit=6, after=0)
        found = messages
        while page["complete"] == "false":
            page, messages = history(client, partner, limit=6, after=0, cursor=page["next"])
            found += messages
        assert [one["id"] for one in found] == sent
        middle = int(found[7]["time"])
        _, messages = history(client, partner, limit=100, after=middle - 1, before=middle + 1)
        assert found[7]["id"] in [one["id"] for one in messages] and {one["time"] for one in messages} == {str(middle)}


def test_history_tells_everything_of_a_message(server, pair):
    alice, bob = pair
    sent = alice.message(BOB, "q", wire.CONSULT, kind=5, headers=[("qchatid", "4"), (3, "info"), ("x-odd", "é")], realto="bob@shop")
    stamp = alice.receipt(sent).inner.receivedTime
    gone = send_all(alice, BOB, ["secret"])[0]
    alice.receipt(alice.revoke(BOB, gone))
    bob.receipt(bob.mark(ALICE, 4, sent))
    _, messages = history(bob, ALICE)
    assert messages[0] == {
        "id": sent, "from": alice.jid, "to": BOB, "time": str(stamp), "type": "consult", "msgType": "5", "flag": "3", "cdata": "q",
        "qchatid": "4", "extendInfo": "info", "realto": "bob@shop", "client_type": "ClientTypePC", "client_ver": "200012"}
    assert (messages[1]["id"], messages[1]["type"], messages[1]["msgType"], messages[1]["revoked"]) == (gone, "revoke", "-1", "true")
    assert "secret" not in str(messages)


def test_history_shows_nobody_elses_talks(make_server, connect):
    server = make_server(users={"alice": "a", "bob": "b", "carol": "c"})
    alice, carol = (connect(server, user).login(resource=A1, tls=False) for user in ("alice", "carol"))
    send_all(alice, BOB, ["between us"])
    for partner in (ALICE, BOB, "carol@example.org"):
        assert history(carol, partner)[1] == []


def test_an_answer_stays_within_a_mebibyte(server, pair):
    alice, _ = pair
    sent = send_all(alice, BOB, ["x" * 300000 + str(i) for i in range(5)])
    page, messages = history(alice, BOB)
    assert page["complete"] == "false" and [one["id"] for one in messages] == sent[2:]
    page, messages = history(alice, BOB, cursor=page["next"])
    assert page["complete"] == "true" and [one["id"] for one in messages] == sent[:2]


def test_a_query_sees_what_was_sent_before_it(pair):
    alice, _ = pair
    for i in range(50):
        sent = alice.message(BOB, f"{i}")
        assert history(alice, limit=1)[1][0]["id"] == sent


# ---- keeping it small, and the command ----

def ctl(server, *args):
    """The lines that startalkctl prints."""
    done = server.ctl("--json", "archive", *args)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def fill(server, count, age="0", body="x"):
    """Adds rows from alice to bob with the sqlite3 command, all delivered and AGE ms old."""
    rows(server, f"""WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO messages (sender, recipient, id, time, flag, type, body)
         SELECT (SELECT id FROM jids WHERE jid = '{ALICE}'), (SELECT id FROM jids WHERE jid = '{BOB}'), 'fill' || i || '-{age}',
                strftime('%s', 'now') * 1000 - {age} + i, 1, 6, printf('%.2000c', '{body}') FROM n""")


def test_status_counts(server, pair):
    alice, bob = pair
    sent = send_all(alice, BOB, "abc")
    alice.receipt(alice.revoke(BOB, sent[0]))
    bob.receipt(bob.mark(ALICE, 4, sent[1]))
    status = [line for line in ctl(server, "status") if "messages" in line][0]
    assert {key: status[key] for key in ("messages", "revoked", "users")} == {"messages": 3, "revoked": 1, "users": 2}
    assert status["undelivered"] in (1, 2) and status["bytes"] > 0


def test_vacuum_deletes_what_is_old_and_gives_pages_back(make_server, connect):
    server = make_server(plugins={"35-archive": "[archive]\nkeep = 1h"})
    alice = connect(server).login(resource=A1, tls=False)
    bob = connect(server, "bob").login(resource=B1, tls=False)
    sent = send_all(alice, BOB, ["a"])[0]
    alice.receipt(alice.revoke(BOB, sent))
    rows(server, "UPDATE messages SET time = 1")
    fill(server, 1200, age="7200000")
    fill(server, 10)
    result = ctl(server, "vacuum")[0]
    assert result["deleted"] == 1201 and result["pages"] > 500
    assert rows(server, "SELECT count(*), (SELECT count(*) FROM revoked) FROM messages") == [["10", "0"]]
    assert rows(server, "PRAGMA freelist_count") == [["0"]]
    assert os.path.getsize(server.path("state", "archive.db")) < 100 * 4096
    assert os.path.getsize(server.path("state", "archive.db-wal")) == 0
    assert ctl(server, "vacuum")[0]["deleted"] == 0
    assert bob.ping()


def test_a_recipient_keeps_the_newest_rows(make_server, connect):
    server = make_server(plugins={"35-archive": "[archive]\nkeep-rows = 50"})
    alice = connect(server).login(resource=A1, tls=False)
    bob = connect(server, "bob").login(resource=B1, tls=False)
    send_all(alice, BOB, "a")
    kept = send_all(bob, ALICE, "b")
    fill(server, 700)
    last = send_all(alice, BOB, "z")
    assert ctl(server, "vacuum")[0]["deleted"] == 652
    assert rows(server, f"SELECT count(*) FROM history WHERE recipient = '{BOB}'") == [["50"]]
    assert [rows(server, f"SELECT count(*) FROM messages WHERE id = '{one}'") for one in kept + last] == [[["1"]], [["1"]]]


def test_messages_pass_while_the_archive_is_cleaned_up(make_server, connect):
    server = make_server(plugins={"35-archive": "[archive]\nkeep = 1h"})
    alice = connect(server).login(resource=A1, tls=False)
    bob = connect(server, "bob").login(resource=B1, tls=False)
    send_all(alice, BOB, "a")
    fill(server, 5000, age="7200000")
    with subprocess.Popen([program("startalkctl"), "-c", server.path("startalkd.conf"), "archive", "vacuum"], stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            started = time.monotonic()
            send_all(alice, BOB, ["now"])
            assert time.monotonic() - started < 2
        assert b"5000 messages deleted" in process.stdout.read()
    assert bob.ping()


def test_export_prints_every_message_of_a_user_and_no_other(make_server, connect):
    server = make_server(users={"alice": "a", "bob": "b", "carol": "c"})
    alice, bob, carol = (connect(server, user).login(resource=A1, tls=False) for user in ("alice", "bob", "carol"))
    mine = send_all(alice, BOB, ["1", "2\n\x1b[31m \" é", "3"]) + send_all(bob, ALICE, "4") + send_all(alice, "carol@example.org", "5")
    mine.append(alice.message(ALICE, "6", headers=[("x-odd", "y")]))
    alice.receipt(mine[-1])
    send_all(bob, "carol@example.org", "no")
    lines = ctl(server, "export", "alice")
    assert sorted(line["id"] for line in lines) == sorted(mine)
    by_id = {line["id"]: line for line in lines}
    assert by_id[mine[1]]["body"] == "2\n\x1b[31m \" é"
    odd = by_id[mine[-1]]
    assert (odd["sender"], odd["recipient"], odd["resource"], odd["type"], odd["kind"]) == (ALICE, ALICE, A1, "chat", 1)
    assert odd["more"] == {"children": [{"element": "header", "attributes": {"name": "x-odd", "value": "y"}}]}
    assert sorted(line["id"] for line in ctl(server, "export", "ALICE@Example.org/x")) == sorted(mine)
    assert carol.ping()


def test_a_large_export_comes_whole_and_in_pages(server, pair):
    alice, _ = pair
    send_all(alice, BOB, "a")
    fill(server, 4000)
    lines = ctl(server, "export", "bob")
    assert len(lines) == 4001
    times = [line["time"] for line in lines]
    assert times == sorted(times)


def test_an_export_that_nobody_reads_ends_with_its_reader(server, pair):
    alice, _ = pair
    send_all(alice, BOB, "a")
    fill(server, 4000)
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(server.path("state", "admin.sock"))
            link.sendall(b'{"command":"archive","do":"export","user":"bob"}\n')
            assert link.recv(1) == b"{"
    with socket.socket(socket.AF_UNIX) as link:  # the server stops before this one is read
        link.connect(server.path("state", "admin.sock"))
        link.sendall(b'{"command":"archive","do":"export","user":"bob"}\n')
        assert link.recv(1) == b"{"
        assert alice.ping()
        server.stop()


@pytest.mark.parametrize("args, why", [
    ((), "which?"), (("sell",), "which?"), (("export",), "wants a user"), (("export", "@"), "wants a user"),
    (("export", "carol"), "no messages of this user")])
def test_wrong_commands_are_told(server, args, why):
    done = server.ctl("archive", *args)
    assert done.returncode == 1 and why in done.stderr


# ---- the file ----

def test_what_waits_at_a_stop_is_pushed_after_the_next_start(server, connect):
    alice = connect(server).login(resource=A1, tls=False)
    sent = send_all(alice, BOB, "ab")
    alice.close()
    server.stop()
    server.start()
    bob = connect(server, "bob").login(resource=B1, tls=False)
    assert [frame.inner.messageId for frame in chats(bob, 2)] == sent


def test_messages_survive_a_restart_and_row_numbers_go_on(server, connect):
    alice = connect(server).login(resource=A1, tls=False)
    sent = send_all(alice, BOB, "ab")
    alice.close()
    server.stop()
    server.start()
    alice = connect(server).login(resource=A1, tls=False)
    sent += send_all(alice, BOB, "c")
    assert [int(row[0]) for row in rows(server, "SELECT seq FROM messages")] == [1, 2, 3]
    bob = connect(server, "bob").login(resource=B1, tls=False)
    assert [frame.inner.messageId for frame in chats(bob, 3)] == sent


@pytest.mark.parametrize("durability", ["normal", "off"])
def test_less_durable_archives_do_the_same(make_server, connect, durability):
    server = make_server(plugins={"35-archive": f"[archive]\ndurability = {durability}"})
    alice = connect(server).login(resource=A1, tls=False)
    sent = send_all(alice, BOB, "ab")
    bob = connect(server, "bob").login(resource=B1, tls=False)
    assert [frame.inner.messageId for frame in chats(bob, 2)] == sent


def test_options_take_effect_with_a_reload_and_sessions_keep_their_place(make_server, connect):
    server = make_server(plugins={"35-archive": "[archive]\npush-offline = off"})
    alice = connect(server).login(resource=A1, tls=False)
    bob = connect(server, "bob").login(resource=B1, tls=False)
    live = send_all(alice, BOB, "a")[0]
    bob.expect(wire.CHAT)
    server.plugin("35-archive", "[archive]\nrevoke-window = 0\ndurability = off")
    server.signal(signal.SIGHUP)
    server.wait_log("archive: durability: takes effect with the next start")
    is_refused(alice, alice.revoke(BOB, live), "403")
    bob.ping()
    bob.ping()
    wait_flag(server, live, "1")  # what was sent before the reload
    bob.close()
    sent = send_all(alice, BOB, "b")
    bob = connect(server, "bob").login(resource=B2, tls=False)
    assert bob.expect(wire.CHAT).inner.messageId == sent[0]


def test_without_message_module_the_archive_still_loads(make_server, connect):
    server = make_server(plugins={"36-message": None})
    alice = connect(server).login(resource=A1, tls=False)
    assert history(alice)[0]["count"] == "0"
