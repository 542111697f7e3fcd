# SPDX-License-Identifier: MIT
"""The example wordfilter: what it finds, what it does then, and how its list changes."""
import re
import signal

import pytest
from stk import example, wire

LIST = "# not allowed\nDamn\nStraße\n坏蛋\n坏蛋们\n"


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    return example.modules_dir(tmp_path_factory.mktemp("wordfilter"), "wordfilter")


@pytest.fixture
def filtered(modules, make_server, connect):
    """filtered(options): the server, alice and bob."""
    def make(options=""):
        server = make_server(server=modules, start=False)
        with open(server.path("list"), "w", encoding="utf-8") as file:
            file.write(LIST)
        server.plugin("80-wordfilter", f"[wordfilter]\nwords = ../list\nlook-every = 100ms\n{options}")
        server.start()
        return server, connect(server).login(), connect(server, "bob").login()
    return make


def text_at(client, message_id):
    return client.expect(wire.CHAT, where=lambda frame: frame.inner.messageId == message_id).inner.body.value


@pytest.mark.parametrize("text", ["Damn", "well, DAMN!", "in der STRASSE", "strasse", "你是坏蛋", "他们坏蛋们来了", "x-damn-y", "(da\u006dn)"])
def test_a_message_with_such_a_word_comes_back_with_the_reason(filtered, text):
    server, alice, bob = filtered("reason = Mind your language")
    refused = alice.message("bob@example.org", text)
    error = alice.expect(wire.ERROR, where=lambda frame: frame.inner.messageId == refused).inner
    assert error.body.value == "Mind your language"
    assert [header.value for header in error.body.headers if header.key == "errcode"] == ["403"]
    good = alice.message("bob@example.org", "fine")
    assert bob.expect(wire.CHAT).inner.messageId == good, "what was refused did not arrive"
    alice.receipt(good)
    assert server.sql("ATTACH '?' AS a; SELECT count(*) FROM a.messages".replace("?", server.path("state", "archive.db"))) == "1"
    assert text not in "\n".join(server.lines), "texts are not logged"


@pytest.mark.parametrize("text", ["Damnation", "goddamn", "Strass", "坏 蛋", "d\u0301amn", "damn1", ""])
def test_a_word_is_found_as_a_whole_only(filtered, text):
    _, alice, bob = filtered()
    sent = alice.message("bob@example.org", text or "-")
    assert text_at(bob, sent) == (text or "-")


def test_masked_words_are_masked_for_everybody_and_in_the_archive(filtered):
    server, alice, bob = filtered("action = mask")
    sent = alice.message("bob@example.org", "Damn, 你是坏蛋们 in der Strasse; damned")
    assert text_at(bob, sent) == "***, 你是*** in der ***; damned"
    alice.receipt(sent)
    stored = server.sql(f"ATTACH '{server.path('state', 'archive.db')}' AS a; SELECT body FROM a.messages")
    assert stored == "***, 你是*** in der ***; damned"


def test_what_is_data_for_a_program_is_refused_rather_than_masked(filtered):
    _, alice, _ = filtered("action = mask")
    sent = alice.message("bob@example.org", '{"name":"damn"}', kind=5)
    assert alice.expect(wire.ERROR).inner.messageId == sent


def test_what_is_encrypted_or_not_written_by_anybody_is_left_alone(filtered):
    _, alice, bob = filtered()
    for signal_type in (wire.ENCRYPT, wire.WEBRTC):
        sent = alice.message("bob@example.org", "damn", signal_type)
        assert bob.expect(signal_type).inner.messageId == sent


def test_a_changed_list_is_used_without_a_reload_and_a_faulty_one_is_not(filtered):
    server, alice, bob = filtered()
    with open(server.path("list"), "w", encoding="utf-8") as file:
        file.write("heck\n")
    server.wait_log("list: was read anew")
    assert text_at(bob, alice.message("bob@example.org", "damn")) == "damn"
    refused = alice.message("bob@example.org", "Heck")
    assert alice.expect(wire.ERROR).inner.messageId == refused
    with open(server.path("list"), "w", encoding="utf-8") as file:
        file.write("good\ntwo words\n")
    server.wait_log(r"list:2: is not one word; the words in use stay")
    refused = alice.message("bob@example.org", "Heck")
    assert alice.expect(wire.ERROR).inner.messageId == refused
    assert text_at(bob, alice.message("bob@example.org", "good")) == "good"


def test_reload_takes_another_action_and_refuses_a_list_that_is_not_there(filtered):
    server, alice, bob = filtered()
    server.plugin("80-wordfilter", "[wordfilter]\nwords = ../nosuch")
    server.signal(signal.SIGHUP)
    server.wait_log(r"80-wordfilter.conf:1: \[wordfilter\] words: \S*nosuch:0: No such file")
    refused = alice.message("bob@example.org", "damn")
    assert alice.expect(wire.ERROR).inner.messageId == refused
    server.plugin("80-wordfilter", "[wordfilter]\nwords = ../list\naction = mask")
    server.signal(signal.SIGHUP)
    server.wait_log("module wordfilter: changed")
    server.wait_log("reload: done")
    assert text_at(bob, alice.message("bob@example.org", "damn")) == "***"
    assert "wordfilter_masked 1\nwordfilter_refused 1\n" in server.ctl("metrics").stdout
    server.plugin("80-wordfilter", None)
    server.signal(signal.SIGHUP)
    server.wait_log("wordfilter: unloaded")
    assert text_at(bob, alice.message("bob@example.org", "damn")) == "damn"


@pytest.mark.parametrize("text, fault", [
    ("words = ../list\ntypes = chat, encrypt", "types: the text of messages of type 'encrypt' is not what somebody wrote"),
    ("words = ../bad", r"words: \S*bad:1: is not UTF-8"),
])
def test_check_finds_faults(modules, make_server, text, fault):
    server = make_server(server=modules, start=False, plugins={"80-wordfilter": f"[wordfilter]\n{text}"})
    for name, content in (("list", LIST.encode()), ("bad", b"\xff\n")):
        with open(server.path(name), "wb") as file:
            file.write(content)
    done = server.run("--check")
    assert done.returncode == 1
    assert re.search(fault, done.stderr), done.stderr
