# SPDX-License-Identifier: MIT
"""Messages while the server is killed at any moment: what had its receipt is there, once, in order. With the VFS of
tests/faults that forgets unsynced bytes, a kill is what the loss of power is to a machine."""
import os
import random
import subprocess
import time

import pytest
from stk.server import BUILD, program
from stk.traffic import Got, Sent, Stored, Traffic, check, history

DROPVFS = os.path.join(BUILD, "tests", "faults", "dropvfs.so")
PLAIN = "[auth_sqlite]\nplain-without-tls = on"


@pytest.fixture
def dropvfs():
    """The environment that makes a server lose at a kill what it did not sync."""
    env = {"LD_PRELOAD": DROPVFS}
    done = subprocess.run([program("startalkd"), "--version"], env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
    if done.returncode != 0 or "Sanitizer" in done.stderr or "LD_PRELOAD" in done.stderr:
        pytest.skip(f"this build does not bear LD_PRELOAD: {done.stderr.strip()[:200]}")
    return env


def make(make_server, env=None, archive=""):
    """A server with the users of the traffic. They are put in with the sqlite3 command, which sees no unsynced bytes, so
    before env holds."""
    server = make_server(users=Traffic.users(), plugins={"10-auth_sqlite": PLAIN, "35-archive": f"[archive]\n{archive}"})
    if env:
        server.stop()
        server.env.update(env)
        server.start()
    return server


def kill_often(server, kills):
    """Traffic with kills at random moments; then everybody gets what is theirs, the server stops, and the books are compared."""
    seed = int(os.environ.get("STK_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"STK_SEED={seed}")
    moments, traffic, cut = random.Random(seed), Traffic(server, seed), 0
    traffic.start()
    try:
        for _ in range(kills):
            before = traffic.receipts()
            if moments.random() < 0.8:  # some come while clients still log in
                traffic.wait(lambda: traffic.receipts() > before, 20, "no traffic")
            time.sleep(moments.uniform(0.05, 0.3))
            cut += traffic.kill() > 0
        traffic.drain()
    finally:
            traffic.stop()
    server.stop()
    stored = history(server)
    faults = traffic.faults(stored)
    assert not faults, f"{len(faults)}:\n" + "\n".join(faults[:30])
    assert len(stored) == traffic.receipts()
    print(f"{traffic.receipts()} messages, {cut} kills of {kills} with messages under way, "
          f"{sum(len(peer.received) for peer in traffic.recipients)} deliveries")
    assert cut > kills / 2, "kills that hit nothing prove nothing"


def test_what_had_its_receipt_is_there_once_and_in_order_after_many_kills(make_server):
    kill_often(make(make_server), 22)


def test_what_had_its_receipt_survives_the_loss_of_all_unsynced_bytes(make_server, dropvfs):
    kill_often(make(make_server, dropvfs), 6)


def test_without_syncs_the_same_check_finds_lost_messages(make_server, dropvfs):
    server = make(make_server, dropvfs, archive="durability = off")
    traffic = Traffic(server, 1, senders=2, late=0)
    traffic.start()
    try:
        traffic.wait(lambda: traffic.receipts() > 30, 20, "no traffic")
    finally:
        server.kill()
        traffic.stop()
    faults = traffic.faults(history(server))
    assert sum("0 times in the history" in fault for fault in faults) > 30, faults


A, B = "a@example.org", "b@example.org"
SENT = [Sent(A, B, n, f"id{n}", f"text {n}") for n in range(1, 4)]
ROWS = [Stored(A, B, message.id, message.text) for message in SENT]
CAME = [Got(A, message.id, message.text) for message in SENT]


def test_the_check_passes_what_is_right_and_deliveries_that_are_repeated():
    assert not check(SENT, ["id1", "id2", "id3"], ROWS, {B: [CAME[0], CAME[1], *CAME]})
    assert not check(SENT, ["id1"], ROWS[:2], {B: CAME[:2]})


@pytest.mark.parametrize("fault, receipts, rows, came", [
    ("0 times in the history", ["id3"], ROWS[:2], CAME),
    ("2 times in the history", ["id2"], [*ROWS, ROWS[1]], CAME),
    ("not delivered", ["id3"], ROWS, CAME[:2]),
    ("several ids", [], [*ROWS, Stored(A, B, "other", "text 3")], CAME),
    ("several ids", [], ROWS, [*CAME, Got(A, "other", "text 3")]),
    ("received by b@example.org: 'text 2' came after", [], ROWS, [CAME[0], CAME[2], CAME[1]]),
    ("history: 'text 2' came after", [], [ROWS[0], ROWS[2], ROWS[1]], CAME),
    ("which nobody sent", ["id9"], ROWS, CAME),
    ("not what was sent", [], [*ROWS, Stored(A, B, "id9", "text 9")], CAME),
    ("not what was sent", [], [ROWS[0]._replace(to=A), *ROWS[1:]], CAME),
])
def test_the_check_finds_each_kind_of_fault(fault, receipts, rows, came):
    assert any(fault in line for line in check(SENT, receipts, rows, {B: came}))
