# SPDX-License-Identifier: MIT
"""What modules may do while they end, and what they are told of what is stored."""
import signal

from stk import plugin, wire


def test_a_timer_and_a_watch_may_be_named_until_unload_has_returned(make_server, tmp_path):
    server = make_server(server=plugin.modules_dir(tmp_path / "modules", "late.c"), plugins={"90-late": "[late]"})
    server.plugin("90-late", None)
    server.signal(signal.SIGHUP)
    server.wait_log("reload: done")
    server.wait_log("late: job over, status 0, both stopped")
    server.wait_log("late: unload")
    assert not any("late: ready" in line for line in server.lines)


def told(server):
    return [line.split("late: ")[1] for line in server.lines if "is on disk" in line]


def test_the_hook_stored_tells_every_module_of_each_stored_message_once(make_server, connect, tmp_path):
    server = make_server(server=plugin.modules_dir(tmp_path / "modules", "late.c"), plugins={"90-late": "[late]"})
    alice, bob = connect(server).login(), connect(server, "bob").login()
    for message_id in ("one", "two", "one"):
        alice.message("bob@example.org", "text", message_id=message_id)
        alice.receipt(message_id)
        server.wait_log(f"late: second: {message_id} is on disk")
    bob.receipt(bob.mark("alice@example.org", 4, "one"))
    alice.receipt(alice.revoke("bob@example.org", "two"))
    bob.message("alice@example.org", "", wire.TYPING)
    alice.expect(wire.TYPING)
    server.stop()  # the log is whole
    assert told(server) == [f"{who}: {what} is on disk" for what in ("one", "two") for who in ("first", "second")]


def test_plan_shows_the_hook_stored(make_server, tmp_path):
    server = make_server(server=plugin.modules_dir(tmp_path / "modules", "late.c"), plugins={"90-late": "[late]"}, start=False)
    lines = [line.split() for line in server.run("--plan").stdout.splitlines()]
    assert ["stored", "priority", "1", "late"] in lines
