# SPDX-License-Identifier: MIT
"""startalk-client: one-to-one chat."""
import json
import re
import signal

import pytest

from stk import wire
from stk.tool import tool  # noqa: F401

ALICE, BOB = "alice@example.org", "bob@example.org"


def marks(client, timeout=None):
    """The next read mark that a client gets: sender's bare JID, read_type, ids."""
    frame = client.expect(wire.READMARK, timeout)
    return frame.sender.split("/")[0], dict(frame.headers())[5], [entry["id"] for entry in json.loads(frame.inner.body.value)]


def start_pair(server, tool, connect):
    script = tool.script(server)
    script.read_until("online devices")
    return script, connect(server, "bob").login()


@pytest.fixture
def pair(server, tool, connect):
    """alice with the tool, bob with a client of another make: both are online."""
    return start_pair(server, tool, connect)


@pytest.fixture
def loose_pair(make_server, tool, connect):
    """The same at a server that keeps nothing, and so looks into no mark and no revocation."""
    return start_pair(make_server(plugins={"35-archive": None}), tool, connect)


# ---- text ----


def test_lines_and_msg_send_text_and_tell_of_the_receipt(pair):
    alice, bob = pair
    alice.send("/to bob", "hello", "/msg --id m-1 bob you /and me", "//slash")
    frames = [bob.expect(wire.CHAT) for _ in range(3)]
    assert [frame.inner.body.value for frame in frames] == ["hello", "you /and me", "/slash"]
    assert [frame.inner.messageType for frame in frames] == [1, 1, 1] and frames[1].inner.messageId == "m-1"
    assert all(re.fullmatch("[0-9a-f]{32}", frames[at].inner.messageId) for at in (0, 2))
    for frame in frames:
        alice.read_until(f"message {frame.inner.messageId}: the server has it\n")
    assert alice.end() == 0


def test_two_accounts_chat_in_one_script(server, tool):
    run = tool(server, *tool.also(server, "bob"), "-c", "/msg --id m-17 bob hello; /as bob /expect alice: hello; /expect bob has read m-17")
    assert run.status == 0, run.out + run.err
    assert re.search(r"^\S+ \[bob\] alice: hello$", run.out, re.M) and re.search(r"^\S+ \[alice\] bob has read m-17$", run.out, re.M)


def test_an_own_copy_says_so(server, tool, connect):
    script = tool.script(server)
    script.read_until("online devices")
    connect(server, "bob").login()
    other = connect(server).login()
    other.message(BOB, "from my phone", wire.CHAT, "m-1")
    assert script.read_until("from my phone")[9:] == "me to bob (other device): from my phone\n"
    other.message(BOB, "a file", wire.CHAT, "m-2", kind=5)
    assert script.read_until("a file")[9:] == "me to bob (other device), kind 5: a file\n"
    assert script.end() == 0


def test_a_refused_message_is_told_with_code_and_words_and_fails_the_script(server, tool):
    run = tool(server, "-c", "/msg nobody hi; /expect refused; /ping")
    assert run.status == 1 and "message to nobody refused: error 404 (item-not-found)" in run.out and "a message was refused" in run.err
    assert "ping:" not in run.out


def test_many_messages_at_once_all_get_their_receipts(server, tool, connect):
    bob = connect(server, "bob").login()
    run = tool(server, text="/to bob\n" + "".join(f"number {number}\n" for number in range(500)))
    assert run.status == 0, run.err
    assert run.out.count("the server has it") == 500
    assert [bob.expect(wire.CHAT).inner.body.value for _ in range(500)] == [f"number {number}" for number in range(500)]


# ---- typing ----


def test_typing_is_sent_without_text_and_shown(pair):
    alice, bob = pair
    alice.send("/typing bob")
    frame = bob.expect(wire.TYPING)
    assert frame.inner.body.value == "" and frame.to == BOB
    alice.send("/to bob", "/typing")
    bob.expect(wire.TYPING)
    bob.message(ALICE, "", wire.TYPING, "t-1")
    assert alice.read_until("typing")[9:] == "bob is typing\n"
    assert alice.end() == 0 and "has it" not in alice.out


def test_typing_to_nobody_fails_a_script(server, tool):
    run = tool(server, "-c", "/typing nobody")
    assert run.status == 1 and "message to nobody refused: error 404" in run.out


# ---- marks ----


def test_what_is_displayed_is_marked_as_read_with_one_mark(pair):
    alice, bob = pair
    alice.send("/ping")
    alice.read_until("ping:")
    bob.message(ALICE, "one", wire.CHAT, "m-1")
    assert marks(bob) == (ALICE, "4", ["m-1"])
    for number in range(2, 250):
        bob.message(ALICE, "x", message_id=f"m-{number}")
    seen = []
    while len(seen) < 248:
        sender, kind, ids = marks(bob)
        assert (sender, kind) == (ALICE, "4") and len(ids) <= 100
        seen += ids
    assert seen == [f"m-{number}" for number in range(2, 250)]
    assert alice.end() == 0 and "mark" not in alice.out and "has it" not in alice.out
    bob.quiet()


def test_consult_is_marked_but_neither_copies_nor_typing_nor_own_words(server, tool, connect):
    script = tool.script(server)
    script.read_until("online devices")
    bob, other = connect(server, "bob").login(), connect(server).login()
    other.message(BOB, "a copy", wire.CHAT, "c-1")
    other.message(ALICE, "to myself", wire.CHAT, "s-1")
    script.read_until("to myself")
    bob.message(ALICE, "x", wire.TYPING, "t-1")
    bob.message(ALICE, "news", wire.HEADLINE, "h-1")
    bob.message(ALICE, "question", wire.CONSULT, "m-1")
    assert marks(bob) == (ALICE, "4", ["m-1"])
    assert script.end() == 0
    bob.quiet()


def test_no_marks_are_sent_when_they_are_not_wanted(server, tool, connect):
    script = tool.script(server, "--no-marks")
    script.read_until("online devices")
    bob = connect(server, "bob").login()
    bob.message(ALICE, "hi", wire.CHAT, "m-1")
    script.read_until("bob: hi")
    script.send("/mark --received bob m-1", "/mark bob m-1 m-0")
    assert marks(bob) == (ALICE, "3", ["m-1"]) and marks(bob) == (ALICE, "4", ["m-1", "m-0"])
    assert script.end() == 0 and len(re.findall("mark [0-9a-f]{32}: the server has it", script.out)) == 2
    bob.quiet()


@pytest.mark.parametrize("kind, text, words", [
    ("4", '[{"id":"m-1"}]', "bob has read m-1"), ("1", '[{"id":"m-1"},{"id":"m-2"}]', "bob has read m-1, m-2"),
    ("3", '[{"id":"m-1"}]', "bob has received m-1"), ("4", "[]", "bob has read []"), ("4", "[7]", "bob has read something without id"),
    ("4", '{"x":', 'bob has read {"x":'), ("4", '[{"id":"\\u001b[2J\\u202e"}]', r"bob has read \x1b[2J\u202e"),
    pytest.param("4", "[" * 5000, "bob has read [[[", id="deep"),
])
def test_received_marks_are_told_in_words(loose_pair, kind, text, words):
    alice, bob = loose_pair
    bob.message(ALICE, text, wire.READMARK, "r-1", headers=[("read_type", kind)])
    assert words in alice.read_until("bob has")[9:]
    assert alice.end() == 0


def test_marks_of_another_device_are_told(server, tool, connect):
    script = tool.script(server)
    script.read_until("online devices")
    connect(server, "bob").login()
    other = connect(server).login()
    other.message(BOB, '[{"id":"m-1"}]', wire.READMARK, "r-1", headers=[(5, "4")])
    assert script.read_until("m-1")[9:] == "me to bob (other device): read m-1\n"
    other.message(ALICE, '{"T":1614599258867}', wire.READMARK, "r-2", headers=[(5, "0")])
    assert script.read_until("everything")[9:] == "alice has read everything until Mon 01 Mar 2021 11:47:38\n"
    other.message(ALICE, '[{"domain":"conference.example.org","id":"room","t":1614599258867}]', wire.READMARK, "r-3", headers=[(5, "2")])
    assert script.read_until("room")[9:] == "alice has read room until Mon 01 Mar 2021 11:47:38\n"
    assert script.end() == 0


def test_an_own_mark_that_is_refused_is_told_but_fails_no_script(server, pair):
    alice, bob = pair
    alice.process.send_signal(signal.SIGSTOP)
    bob.receipt(bob.message(ALICE, "farewell"))
    server.sql("DELETE FROM users WHERE username = 'bob'")
    bob.expect_end(201)
    alice.process.send_signal(signal.SIGCONT)
    alice.read_until("bob: farewell")
    alice.read_until("mark to bob refused: error 404 (item-not-found)")
    assert alice.end() == 0


# ---- taking back ----


def test_a_message_is_taken_back(pair):
    alice, bob = pair
    alice.send("/msg --id m-1 bob oops")
    bob.expect(wire.CHAT)  # else it may become the notice before bob's backlog has been read
    alice.send("/revoke m-1 bob")
    frame = bob.expect(wire.REVOKE)
    assert frame.inner.messageType == -1 and frame.inner.messageId == "m-1"
    wanted = {"messageId": "m-1", "fromId": ALICE, "message": "revoke a message"}
    assert json.loads(frame.inner.body.value) == wanted and json.loads(dict(frame.headers())[3]) == wanted
    alice.read_until("message m-1: the server has it")
    alice.read_until("revoke of m-1: the server has it")
    assert alice.end() == 0


def test_the_last_message_is_taken_back_from_whom_it_went_to(server, tool, connect):
    bob = connect(server, "bob").login()
    run = tool(server, "-c", "/msg --id m-1 bob a; /msg --id m-2 bob b; /to alice; /revoke last")
    assert run.status == 0, run.err
    assert bob.expect(wire.REVOKE).inner.messageId == "m-2"
    run = tool(server, "-c", "/to bob; /msg --id m-3 bob a; /msg --id m-4 alice b; /revoke m-3")
    assert run.status == 0, run.err
    assert bob.expect(wire.REVOKE).inner.messageId == "m-3"


@pytest.mark.parametrize("text, headers, words", [
    ('{"messageId":"m-1","fromId":"bob@example.org","message":"x"}', [], "bob took back m-1"),
    ("[a message]", [("extendInfo", '{"messageId":"m-2"}')], "bob took back m-2"), ("[a message]", [], "bob took back r-1"),
    ('{"messageId":"a\\nb"}', [], r"bob took back a\nb"),
])
def test_what_others_take_back_is_told(loose_pair, text, headers, words):
    alice, bob = loose_pair
    bob.message(ALICE, text, wire.REVOKE, "r-1", -1, headers)
    assert alice.read_until("took back")[9:] == words + "\n"
    assert alice.end() == 0


# ---- history ----

DATE = r"\w{3} \d\d \w{3} \d{4} \d\d:\d\d:\d\d"


def test_history_tells_date_sender_text_and_how_far_own_messages_got(pair):
    alice, bob = pair
    alice.send("/msg bob one", "/msg bob two", "/msg bob three")
    one, two, _ = (bob.expect(wire.CHAT).inner.messageId for _ in range(3))
    bob.mark(ALICE, 4, one)
    bob.receipt(bob.mark(ALICE, 3, two))
    bob.receipt(bob.message(ALICE, "a file\x1b[2J", kind=5))
    bob.message(ALICE, "question", wire.CONSULT)
    alice.read_until("question")
    alice.send("/history bob", "/expect question")
    assert alice.read_until("history with")[9:] == "history with bob: 5 messages\n"
    lines = [alice.read_until("") for _ in range(5)]
    assert all(re.match(DATE + " ", line) for line in lines), lines
    said = [re.sub("^" + DATE + " ", "", line) for line in lines]
    assert said[:2] == ["me: one (read)\n", "me: two (delivered)\n"] and re.fullmatch(r"me: three \((sent|delivered)\)\n", said[2])
    assert said[3:] == ["bob, kind 5: a file\\x1b[2J\n", "bob, consult: question\n"]
    assert alice.end() == 0


def test_history_with_somebody_who_was_offline_is_first_sent_then_read(server, tool):
    run = tool(server, "-c", "/msg --id m-1 bob hello; /history bob")
    assert run.status == 0 and "me: hello (sent)\n" in run.out and "history with bob: 1 message\n" in run.out
    assert tool(server, "-c", "/expect alice: hello", user="bob").status == 0
    run = tool(server, "-c", "/history bob")
    assert run.status == 0 and "me: hello (read)\n" in run.out


def test_history_shows_what_was_taken_back_and_by_whom(server, tool):
    run = tool(server, *tool.also(server, "bob"), "-c",
               "/msg --id m-1 bob oops; /revoke last; /history bob; /expect me: (taken back); /as bob /history alice")
    assert run.status == 0, run.err
    assert re.search(rf"^\[alice\] {DATE} me: \(taken back\)$", run.out, re.M)
    assert re.search(rf"^\[bob\] {DATE} alice: \(taken back\)$", run.out, re.M) and "oops" not in run.out.split("history with alice")[1]


def test_a_long_history_comes_in_pages_and_in_order(server, tool, connect):
    bob = connect(server, "bob").login()
    for number in range(250):
        bob.message(ALICE, f"number {number}.")
    last = bob.message(ALICE, "last")
    bob.receipt(last)
    run = tool(server, "--no-marks", "--raw", "-c", "/expect bob: last; /raw off; /history bob 230")
    assert run.status == 0, run.err
    assert "history with bob: 230 messages, there are older ones\n" in run.out
    said = re.findall(rf"^{DATE} bob: (.*)$", run.out, re.M)
    assert said == [f"number {number}." for number in range(21, 250)] + ["last"]
    run = tool(server, "--raw", "-c", "/history bob 10000")
    assert run.status == 0 and "history with bob: 251 messages\n" in run.out
    assert re.findall(r"^>> .* limit='(\d+)'", run.out, re.M) == ["100"] * 3
    assert re.findall(rf"^{DATE} bob: number (\d+)\.$", run.out, re.M) == [str(number) for number in range(250)]
    run = tool(server, "-c", "/history bob 1")
    assert re.findall(rf"^{DATE} bob: (.*)$", run.out, re.M) == ["last"] and ": 1 message, there are older ones\n" in run.out


def test_what_is_first_seen_in_the_history_is_marked_once(make_server, tool, connect):
    server = make_server(plugins={"35-archive": "[archive]\npush-offline = off\n"})
    bob = connect(server, "bob").login()
    for number in range(3):
        bob.receipt(bob.message(ALICE, "hi", message_id=f"m-{number}"))
    assert tool(server, "--no-marks", "-c", "/history bob").status == 0
    bob.quiet()
    assert tool(server, "-c", "/history bob 2").status == 0
    assert marks(bob) == (ALICE, "4", ["m-1", "m-2"])
    assert tool(server, "-c", "/history bob").status == 0
    assert marks(bob) == (ALICE, "4", ["m-0"])
    assert tool(server, "-c", "/history bob").status == 0
    bob.quiet()


def test_history_with_nobody_is_empty(server, tool):
    run = tool(server, "-c", "/history nobody; /history bob@elsewhere.org 5")
    assert run.status == 0 and "history with nobody: 0 messages\n" in run.out and "history with bob@elsewhere.org: 0 messages\n" in run.out


def test_history_and_messages_without_their_modules_are_refused(make_server, tool):
    server = make_server(plugins={"35-archive": None, "36-message": None})
    run = tool(server, "-c", "/history bob 3; /ping")
    assert run.status == 1 and "history: error 503 (service-unavailable)" in run.err and "ping:" not in run.out
    run = tool(server, "-c", "/msg bob hi")
    assert run.status == 1 and "message to bob refused: error 503 (service-unavailable)" in run.out
    run = tool(server, "-c", "/revoke m-1 bob")
    assert run.status == 1 and "revoke to bob refused: error 503 (service-unavailable)" in run.out


# ---- arguments ----


@pytest.mark.parametrize("command, reason", [
    ("/msg --id", "usage: /msg"), ("/msg --id m-1", "usage: /msg"), ("/msg --id m-1 bob", "usage: /msg"),
    (f"/msg --id {'x' * 129} bob hi", "at most 128 bytes"),
    ("/typing", "whom? give a JID"), ("/typing bob carol", "usage: /typing"), ("/typing a@", "a@: not a JID"),
    ("/mark", "usage: /mark"), ("/mark bob", "usage: /mark"), ("/mark --received bob", "usage: /mark"), ("/mark a@ m-1", "a@: not a JID"),
    ("/revoke", "usage: /revoke"), ("/revoke m-1 bob carol", "usage: /revoke"), ("/revoke m-1", "whom? give a JID"),
    ("/revoke last", "no message was sent yet"),
    ("/revoke last bob", "no message was sent yet"), (f"/revoke {'x' * 129} bob", "at most 128 bytes"),
    ("/history", "usage: /history"), ("/history bob 0", "usage: /history"), ("/history bob 10001", "usage: /history"),
    ("/history bob x", "usage: /history"),
    ("/history bob 1 2", "usage: /history"), ("/history a@", "a@: not a JID"), (b"/mark bob \xff\n/ping\n", "not valid UTF-8"),
    (b"/revoke \xff bob\n/ping\n", "not valid UTF-8"), (b"/msg --id \xff bob x\n/ping\n", "not valid UTF-8"),
])
def test_bad_commands_are_told_and_end_the_script(server, tool, command, reason):
    run = tool(server, text=command if isinstance(command, bytes) else command + "\n/ping\n")
    assert run.status == 1 and reason in run.err and "ping:" not in run.out
