# SPDX-License-Identifier: MIT
"""The configuration is read anew while clients stay connected."""
import os
import signal
import threading

from stk import wire
from stk.server import ROOT
from test_message import is_refused
from test_refusals import is_error


def reload(server, outcome="done"):
    since = len(server.lines)
    server.signal(signal.SIGHUP)
    server.wait_log("reload: " + outcome, since=since)
    return "\n".join(server.lines[since:])


def test_a_module_goes_and_comes_while_a_session_stays(server, connect):
    client = connect(server).login()
    assert client.ping().inner.value == "ping"
    server.plugin("40-ping", None)
    assert "module ping: removed" in reload(server)
    assert is_error(client.ping(), "503")
    server.plugin("40-ping", "[ping]")
    assert "module ping: added" in reload(server)
    assert client.ping().inner.value == "ping"
    client.quiet(0.1)


def test_new_options_take_effect_for_the_next_who_comes(server, connect):
    one = connect(server).login()
    server.plugin("30-presence", "[presence]\nnavversion = 77")
    assert "module presence: changed" in reload(server)
    two = connect(server)
    two.welcome()
    two.auth(two.rsa(server.passwords["alice"]))
    two.bind("R_2")
    assert two.expect_notice(3).inner.body.value == '{"navversion":"77"}'
    assert one.ping()


def test_anything_wrong_leaves_everything_as_it_was(server, connect):
    client = connect(server).login()
    server.plugin("40-ping", None)
    for name, text, fault in (
            ("90-x", "[nosuch]", "there is no nosuch.so"), ("90-x", "[log]\nlevel = info", "90-x.conf:1: "),
            ("30-presence", "[presence]\nnavversin = 7", "navversion"), ("90-x", "[ping]\n[bind]\nsessions-per-user = many", "90-x.conf:"),
            ("36-message", "[message]\ncopies = nothing", "nothing")):
        server.plugin(name, text)
        log = reload(server, "refused")
        assert fault in log
        assert client.ping().inner.value == "ping"
        server.plugin("90-x", "")
        for module in ("presence", "message"):
            number = {"presence": "30", "message": "36"}[module]
            with open(os.path.join(ROOT, "modules", module, f"{module}.conf"), encoding="utf-8") as file:
                server.plugin(f"{number}-{module}", file.read())
    assert "module ping: removed" in reload(server)
    assert is_error(client.ping(), "503")


def test_the_last_way_to_log_in_cannot_be_taken_away(server, connect):
    client = connect(server).login()
    server.plugin("10-auth_sqlite", None)
    assert "SASL" in reload(server, "refused")
    assert connect(server, "bob").login() and client.ping()


def test_what_needs_a_restart_says_so(server):
    with open(server.path("startalkd.conf"), encoding="utf-8") as file:
        text = file.read()
    with open(server.path("startalkd.conf"), "w", encoding="utf-8") as file:
        file.write(text.replace("port = 0", "port = 0\nbacklog = 17"))
    assert "[listen]: has changed: restart needed" in reload(server)


def test_limits_and_log_level_change(server, connect):
    client = connect(server).login()
    server.plugin("90-limits", "")
    with open(server.path("startalkd.conf"), encoding="utf-8") as file:
        text = file.read()
    with open(server.path("startalkd.conf"), "w", encoding="utf-8") as file:
        file.write(text.replace("[limits]", "[limits]\nmax-frame = 8 KiB"))
    assert "[limits]: changed" in reload(server)
    client.message("bob@example.org", "x" * 9000)
    client.expect_end(222)


def test_nothing_is_lost_while_modules_come_and_go(make_server, connect):
    server = make_server()
    alice, bob = connect(server).login(tls=False), connect(server, "bob").login(tls=False)
    stop = threading.Event()
    sent, got = [], []

    def receive():
        while not got or got[-1] != "last":
            got.append(bob.expect(wire.CHAT).inner.messageId)

    def send():
        while not stop.is_set():
            sent.append(alice.message("bob@example.org"))
            alice.receipt(sent[-1])

    threads = [threading.Thread(target=one, daemon=True) for one in (send, receive)]
    for thread in threads:
        thread.start()
    for i in range(40):
        server.plugin("40-ping", "[ping]" if i % 2 else None)
        server.plugin("36-message", f"[message]\ndeliver-to = {'all' if i % 3 else 'highest'}")
        reload(server)
    stop.set()
    threads[0].join(20)
    sent.append(alice.message("bob@example.org", message_id="last"))
    threads[1].join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert got == sent and len(sent) > 5


def test_the_module_that_delivers_can_go_while_the_archive_is_at_work(server, connect):
    alice, bob = connect(server).login(tls=False), connect(server, "bob").login(tls=False)
    for turn in range(5):
        sent = [alice.message("bob@example.org", f"{turn} {i}", message_id=f"m-{turn}-{i}") for i in range(200)]
        server.plugin("36-message", None)
        reload(server)
        assert is_refused(alice, alice.message("bob@example.org", message_id=f"refused-{turn}"), "503")
        server.plugin("36-message", "[message]")
        reload(server)
        alice.message("bob@example.org", "the last", message_id=f"last-{turn}")
        alice.receipt(f"last-{turn}")
        bob.expect(wire.CHAT, where=lambda frame: frame.inner.messageId == f"last-{turn}")
        assert len(sent) == 200
    assert alice.ping() and bob.ping()
