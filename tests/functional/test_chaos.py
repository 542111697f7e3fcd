# SPDX-License-Identifier: MIT
"""Everything goes wrong at once (tests/chaos), at a short setting; and the verdict on it, which names each promise that is broken. The long one
is tests/chaos/chaos itself."""
import json
import os
import sqlite3
import subprocess
import sys

import pytest
from stk.server import BUILD
from stk.wire import ROOT

CHAOS = os.path.join(ROOT, "tests", "chaos", "chaos")
SESSIONS = int(os.environ.get("STK_CHAOS_SESSIONS", "100"))
SECONDS = float(os.environ.get("STK_CHAOS_SECONDS", "18"))
NOT_SHOWN = 3  # all held, but the machine was too busy to tell the delivery times
KINDS = {"stop", "lock-archive", "lock-users", "reload", "vanish-reset", "vanish-close", "vanish-half", "vanish-silently", "freeze", "garbage",
         "garbage-at-door", "cut-in-frame", "cut-in-record", "cut-in-connect", "cut-in-welcome", "cut-in-hello", "cut-in-handshake", "cut-in-login"}


def chaos(*args):
    done = subprocess.run([sys.executable, CHAOS, *(str(arg) for arg in args)], capture_output=True, text=True, timeout=420, check=False)
    print(done.stdout + done.stderr)
    return done


def read(folder):
    with open(folder / "run.json", encoding="utf-8") as file:
        return json.load(file)


def write(folder, run):
    (folder / "run.json").write_text(json.dumps(run))


def sql(folder, *statements):
    with sqlite3.connect(folder / "archive.db") as db:
        for statement in statements:
            db.execute(statement)


def test_nothing_acknowledged_is_lost_and_nothing_is_left_behind_when_everything_goes_wrong_at_once(tmp_path):
    folder = tmp_path / "kept"
    seed = ("--seed", os.environ["STK_SEED"]) if "STK_SEED" in os.environ else ()
    done = chaos("--build", BUILD, "--sessions", SESSIONS, "--minutes", SECONDS / 60, "--window", 6, "--warmup", 6, "--settle", 1, "--every", 0.9,
                 "--pace", 5, "--rate", 60, "--slack", 8192, "--keep", folder, *seed)
    assert done.returncode in (0, NOT_SHOWN), done.stdout + done.stderr
    assert KINDS <= set(read(folder)["done"]), "the run was too short to do everything"
    sql(folder, "DELETE FROM messages WHERE seq = (SELECT max(seq) FROM messages WHERE length(id) = 32)")
    done = chaos("--judge", folder)
    assert done.returncode == 1 and "acknowledged, and 0 times in the archive" in done.stdout


# ---- the verdict ----


def id_of(flow, number):
    return f"{0xabcd:04x}{flow:06x}{number:08x}{number:014x}"


@pytest.fixture
def kept(tmp_path):
    """What a short run without a fault would leave: two pairs, twenty messages each, 40 ms apart."""
    folder = tmp_path / "kept"
    folder.mkdir()
    rows, lines = [], ["begin - 1000000 1000000"]
    for number in range(20):
        for flow in range(2):
            sent = 1_000_000 + 40_000 * number
            rows.append((id_of(flow, number), f"u{2 * flow:05}@example.org", f"u{2 * flow + 1:05}@example.org", 1, "text"))
            lines += [f"{kind} {id_of(flow, number)} {sent} {sent + 5000}" for kind in ("receipt", "delivery", "mark")]
    rows += [(f"feed-{number}", "u00004@example.org", "u00005@example.org", 0, f"fed {number}") for number in range(2)]
    (folder / "record").write_text("\n".join(lines) + "\n")
    (folder / "stalls").write_text("")
    (folder / "feed.json").write_text(json.dumps({"sent": [[f"feed-{n}", "u00005@example.org", f"fed {n}"] for n in range(2)],
                                                  "receipts": ["feed-0", "feed-1"]}))
    figures = {"sessions": 0, "connections": 0, "rss": 100_000, "fds": 2, "files": ["socket:", "/state/archive.db"]}
    write(folder, {"before": figures, "after": figures, "bench": {"faults": []}, "cpu": {"server": 0.1}, "exit": 0, "faults": [],
                   "domain": "example.org", "window": 1, "seconds": 1, "slack": 0, "sanitized": False, "pauses": [], "done": {"stop": 1}})
    sql(folder, "CREATE TABLE messages (seq INTEGER PRIMARY KEY, id, sender, recipient, flag, body)",
        "CREATE VIEW history AS SELECT *, 'chat' AS type FROM messages",
        *(f"INSERT INTO messages (id, sender, recipient, flag, body) VALUES {row!r}" for row in rows))
    return folder


def test_a_run_that_kept_all_promises_is_told_so(kept):
    done = chaos("--judge", kept)
    assert done.returncode == 0 and "all promises were kept" in done.stdout


@pytest.mark.parametrize("statement, named", [
    ("DELETE FROM messages WHERE seq = 7", f"message {id_of(0, 3)}: acknowledged, and 0 times in the archive"),
    ("INSERT INTO messages (id, sender, recipient, flag, body) SELECT id, sender, recipient, flag, body FROM messages WHERE seq = 7",
     f"message {id_of(0, 3)}: acknowledged, and 2 times in the archive"),
    ("UPDATE messages SET seq = 1000 WHERE seq = 7", f"message {id_of(0, 3)}: number 3 is behind 19 in the archive"),
    ("UPDATE messages SET recipient = 'u00009@example.org' WHERE seq = 7", f"message {id_of(0, 3)}: from u00000@example.org to u00009@example.org"),
    ("UPDATE messages SET flag = 0 WHERE seq = 7", f"message {id_of(0, 3)}: marked as delivered, and not so in the archive"),
    ("DELETE FROM messages WHERE id = 'feed-1'", "feed feed-1: acknowledged, and 0 times in the archive"),
    ("UPDATE messages SET body = 'fed' WHERE id = 'feed-1'", "feed feed-1: another recipient or text in the archive"),
    ("UPDATE messages SET seq = 1000 WHERE id = 'feed-0'", "feed feed-0: out of order in the archive"),
])
def test_what_is_wrong_in_the_archive_is_named(kept, statement, named):
    sql(kept, statement)
    done = chaos("--judge", kept)
    assert done.returncode == 1 and f"BROKEN: {named}" in done.stdout


@pytest.mark.parametrize("where, value, named", [
    ("after rss", 111_000, "memory is 111000 KiB, +11.0% of the 100000 KiB before"),
    ("after files", ["socket:", "socket:", "/state/archive.db"], "descriptors, and 2 before: {'socket:': 1}"),
    ("after files", ["socket:", *["/state/archive.db"] * 6], "descriptors, and 2 before: {'/state/archive.db': 5}"),
    ("after sessions", 1, "1 sessions are left when all clients are gone"),
    ("after connections", 1, "1 connections are left when all clients are gone"),
    ("bench faults", ["1 messages were not delivered"], "the well-behaved: 1 messages were not delivered"),
    ("faults", ["a reload that should work: refused"], "a reload that should work: refused"),
    ("exit", 1, "the server ended with status 1"),
    ("pauses", [{"begin": 1.1, "end": 3}], "deliveries lie outside of pauses: too few to judge by"),
])
def test_what_is_left_behind_or_went_wrong_is_named(kept, where, value, named):
    run = read(kept)
    *path, last = where.split()
    place = run
    for name in path:
        place[name] = dict(place[name])
        place = place[name]
    place[last] = value
    write(kept, run)
    done = chaos("--judge", kept)
    assert done.returncode == 1 and "BROKEN: " in done.stdout and named in done.stdout


def delay(folder, number, milliseconds):
    """A delivery comes late."""
    lines = (folder / "record").read_text().splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith(f"delivery {id_of(0, number)}"))
    words = lines[at].split()
    lines[at] = " ".join([*words[:3], str(int(words[2]) + 1000 * milliseconds)])
    (folder / "record").write_text("\n".join(lines) + "\n")


def test_deliveries_that_take_too_long_are_told_with_their_window(kept):
    delay(kept, 4, 60)
    done = chaos("--judge", kept)
    assert done.returncode == 1 and "BROKEN: p99 of the delivery time is 60.0 ms from second 0 to 1; bound 50 ms" in done.stdout


@pytest.mark.parametrize("begin, end, status", [(1.2, 1.21, 0), (0.1, 0.2, 1), (1.5, 1.6, 1)])
def test_what_a_pause_held_up_is_excused_and_nothing_else(kept, begin, end, status):
    delay(kept, 4, 60)
    run = read(kept)
    run["pauses"] = [{"begin": begin, "end": end}]
    write(kept, run)
    done = chaos("--judge", kept)
    assert done.returncode == status and "p99 60.0 ms of all 40 deliveries" in done.stdout


def test_times_that_a_busy_machine_spoils_are_neither_good_nor_bad(kept):
    delay(kept, 4, 60)
    (kept / "stalls").write_text("".join(f"{1 + at / 100} {1.01 + at / 100}\n" for at in range(30, 40)))
    done = chaos("--judge", kept)
    assert done.returncode == NOT_SHOWN and "NOT SHOWN: p99 of the delivery time is 60.0 ms from second 0 to 1" in done.stdout
    sql(kept, "DELETE FROM messages WHERE seq = 7")
    assert chaos("--judge", kept).returncode == 1
