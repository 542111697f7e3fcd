# SPDX-License-Identifier: MIT
"""The ways that most clients take, once, with the server under valgrind: `make check-valgrind`. What memcheck finds, leaks as well, is
the exit status of the server, which has to be 0 at the end of each test."""
import os

import pytest
from stk import wire
from test_reload import reload

pytestmark = pytest.mark.skipif("valgrind" not in os.environ.get("STK_WRAPPER", ""), reason="is for make check-valgrind")


def test_login_messages_archive_and_reload_use_memory_well(make_server, connect):
    server = make_server()
    waits = connect(server, "alice").login()
    message = waits.message("bob@example.org", "while bob is away")
    assert waits.receipt(message)
    stranger = connect(server, "bob")
    stranger.welcome()
    stranger.starttls()
    assert stranger.auth("wrong").signal == wire.FAILURE
    bob = connect(server, "bob").login(tls=False)
    assert bob.expect(wire.CHAT).inner.messageId == message
    for text in ("short", "x" * 3000):
        message = bob.message("alice@example.org", text)
        assert waits.expect(wire.CHAT).inner.messageId == message and bob.receipt(message)
    server.plugin("40-ping", None)
    assert "module ping: removed" in reload(server)
    server.plugin("40-ping", "[ping]")
    assert "module ping: added" in reload(server)
    assert bob.ping().inner.value == "ping"
    waits.send_bytes(wire.wrap(b"\xff" * 20, 0))
    waits.expect_end(222)
