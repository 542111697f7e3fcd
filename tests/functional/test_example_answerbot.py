# SPDX-License-Identifier: MIT
"""The example answerbot: answers that come from jobs, how many at a time, and what is never answered."""
import signal

import pytest
from stk import example, wire

BOT = "primes@example.org"
USERS = {"alice": "alice's pw", "bob": "bob's pw", "primes": "the bot's"}
SLOW = "40000000"  # takes long enough to do something meanwhile


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    return example.modules_dir(tmp_path_factory.mktemp("answerbot"), "answerbot")


@pytest.fixture
def bot(modules, make_server):
    def make(options="", **kwargs):
        return make_server(server=modules, users=USERS, plugins={"81-answerbot": f"[answerbot]\njid = {BOT}\n{options}"}, **kwargs)
    return make


def ask(client, text, **fields):
    """Sends TEXT to the bot and returns its answer."""
    message_id = client.message(BOT, text, **fields)
    return client.expect(wire.CHAT, where=lambda frame: frame.inner.messageId.endswith(message_id), timeout=30)


def test_a_message_is_confirmed_and_answered_as_clients_show_it(bot, connect):
    alice = connect(bot()).login()
    message_id = alice.message(BOT, "100")
    alice.receipt(message_id)
    frame = alice.expect(wire.CHAT)
    assert (frame.sender, frame.to) == (BOT, "alice@example.org")
    assert (frame.inner.messageType, frame.inner.body.value) == (1, "25 primes below 100")
    assert frame.inner.messageId == f"re_alice@example.org_{message_id}" and frame.inner.clientType and frame.inner.receivedTime
    assert ("auto_reply", "true") in frame.headers() and ("errcode", "0") in frame.headers()


def test_an_answer_waits_for_who_has_gone_and_all_devices_see_both(bot, connect):
    server = bot()
    alice = connect(server).login()
    alice.receipt(alice.message(BOT, "1000"))
    alice.expect(wire.CHAT)
    rows = server.sql(f"ATTACH '{server.path('state', 'archive.db')}' AS a; SELECT sender, body FROM a.history ORDER BY seq")
    assert rows.splitlines() == ["alice@example.org|1000", f"{BOT}|168 primes below 1000"]


@pytest.mark.parametrize("text", ["hello", "1", "-7", "10000001", "99999999999999999999", "7 apples", "{}"])
def test_what_is_no_number_gets_help_behind_the_question(bot, connect, text):
    server = bot()
    alice = connect(server).login()
    assert ask(alice, text).inner.body.value == "Send me a number from 2 to 10000000"
    rows = server.sql(f"ATTACH '{server.path('state', 'archive.db')}' AS a; SELECT sender FROM a.history ORDER BY seq")
    assert rows.splitlines() == ["alice@example.org", BOT]


def test_the_same_question_sent_twice_is_answered_once(bot, connect):
    alice = connect(bot()).login()
    assert ask(alice, "10", message_id="same").inner.body.value == "4 primes below 10"
    alice.message(BOT, "10", message_id="same")
    alice.receipt("same")
    alice.quiet()


def test_errors_programs_typing_and_other_addresses_are_not_answered(bot, connect):
    server = bot()
    alice, bob = connect(server).login(), connect(server, "bob").login()
    alice.message(BOT, "10", headers=[("auto_reply", "true")])
    alice.message(BOT, "10", wire.TYPING)
    alice.message(BOT, "10", wire.HEADLINE)
    alice.mark(BOT, 4, "nosuch")
    alice.message("bob@example.org", "10")
    bob.expect(wire.CHAT)
    primes = connect(server, "primes").login()
    primes.message(BOT, "10")
    assert ask(alice, "20").inner.body.value == "8 primes below 20", "and no answer came before"
    assert server.sql(f"ATTACH '{server.path('state', 'archive.db')}' AS a; SELECT count(*) FROM a.history WHERE sender = '{BOT}' "
                      f"AND body LIKE '%primes%'") == "1"


def test_an_iq_is_answered_by_a_job_and_bad_ones_at_once(bot, connect):
    alice = connect(bot()).login()
    result = alice.iq(namespace="urn:example:primes", key="primes", value="1000000").inner
    assert (result.definedKey, result.value, result.body.value) == (80, "primes", "78498 primes below 1000000")
    for value in ("", "1", "x"):
        assert (42, "400") in alice.iq(namespace="urn:example:primes", key="primes", value=value).headers()


def test_a_user_has_a_share_of_the_jobs_and_others_are_not_held_up(bot, connect):
    server = bot(f"jobs-per-user = 1\nmost = {SLOW}")
    alice, bob = connect(server).login(), connect(server, "bob").login()
    first = alice.message(BOT, SLOW)
    assert ask(alice, "10").inner.body.value == "One thing after the other, please"
    assert (42, "500") in alice.iq(namespace="urn:example:primes", key="primes", value="10").headers()
    assert ask(bob, "10").inner.body.value == "4 primes below 10"
    assert alice.ping().inner.definedKey == 80, "meanwhile the server does other things"
    answer = alice.expect(wire.CHAT, timeout=60)
    assert answer.inner.messageId.endswith(first) and answer.inner.body.value == f"2433654 primes below {SLOW}"
    assert ask(alice, "10").inner.body.value == "4 primes below 10"


def test_unload_during_jobs_answers_iqs_and_frees_everything(bot, connect):
    server = bot(f"jobs-per-user = 50\nmost = {SLOW}")
    alice, bob = connect(server).login(), connect(server, "bob").login()
    for _ in range(12):
        alice.message(BOT, SLOW)
    bob.ids += 1
    bob.send(wire.IQ, wire.pb.IQMessage(namespace="urn:example:primes", key="primes", value=SLOW, messageId="slow"), bob.jid)
    bob.ping()
    server.plugin("81-answerbot", None)
    server.signal(signal.SIGHUP)
    error = bob.expect(wire.IQ, where=lambda frame: frame.inner.messageId == "slow")
    assert error.inner.definedKey == 90 and (42, "503") in error.headers()
    assert alice.expect(wire.CHAT, timeout=60, where=lambda frame: frame.inner.body.value == "I have to go, ask again later")
    server.wait_log("module: answerbot: unloaded", 60)


def test_reload_keeps_jobs_and_the_server_stops_in_the_middle_of_one(bot, connect):
    server = bot(f"most = {SLOW}")
    alice = connect(server).login()
    sent = alice.message(BOT, SLOW)
    alice.receipt(sent)
    server.plugin("81-answerbot", f"[answerbot]\njid = {BOT}\nmost = 100000000")
    server.signal(signal.SIGHUP)
    server.wait_log("reload: done")
    assert alice.expect(wire.CHAT, timeout=60).inner.messageId.endswith(sent)
    alice.receipt(alice.message(BOT, SLOW))
    server.stop()


def test_check_wants_a_users_jid(bot):
    server = bot(start=False)
    server.plugin("81-answerbot", "[answerbot]\njid = primes@example.org/home")
    done = server.run("--check")
    assert done.returncode == 1 and "jid: 'primes@example.org/home' is no user@domain" in done.stderr
