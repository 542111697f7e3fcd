# SPDX-License-Identifier: MIT
"""What a chaos run must not break, judged from what it left in a folder: run.json (what was done and measured), stalls (what
stalls.py says), record (the well-behaved, as startalk-bench writes it), feed.json (what was sent to the frozen) and archive.db. Nothing here runs a server."""
import bisect
import collections
import contextlib
import json
import os
import re
import sqlite3

BOUND_MS = 50  # p99 of the delivery time of each window
BOUND_SANITIZED_MS = 1000
RECOVERY, SHARE = 0.25, 0.1  # seconds behind a pause, and of its length, in which what has piled up may come late
LATE = 0.02  # seconds behind its time at which a process that is ready runs: the machine stands still
BUSY = 4  # milliseconds: so late is one wake-up in a hundred when it is busy with other things
EVERY = 0.01  # seconds between the wake-ups of stalls.py
GROWTH_MAX = 0.10  # of the memory before
CONNECTIONS_MAX = 5  # to a database: threads open theirs when they first need it; two workers, the writer, the checkpointer and the router
JUDGED_MIN = 0.5  # share of all deliveries that must lie outside of pauses
SHOWN = 3  # faults of one kind that are told one by one

Record = collections.namedtuple("Record", "begin receipts deliveries marks")
Row = collections.namedtuple("Row", "sender recipient id flag body")


def read_record(path):
    """receipts and marks: ids, in the order in which they came; deliveries: (sent, arrived), seconds of the monotonic clock."""
    receipts, deliveries, marks, begin = [], [], [], 0
    with open(path, encoding="ascii") as file:
        for line in file:
            kind, id_, sent, arrived = line.split()
            if kind == "begin":
                begin = int(sent) / 1e6
            elif kind == "receipt":
                receipts.append(id_)
            elif kind == "mark":
                marks.append(id_)
            else:
                deliveries.append((int(sent) / 1e6, int(arrived) / 1e6))
    return Record(begin, receipts, deliveries, marks)


def read_archive(path):
    """Oldest first."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        flags = dict(db.execute("SELECT seq, flag FROM messages"))
        rows = db.execute("SELECT seq, sender, recipient, id, body FROM history WHERE type = 'chat' ORDER BY seq")
        return [Row(sender, recipient, id_, flags[seq], body) for seq, sender, recipient, id_, body in rows]


def some(faults):
    """The first few, and how many there are."""
    return faults if len(faults) <= SHOWN else [*faults[:SHOWN], f"... {len(faults)} of this kind in all"]


# ---- messages ----


def flow_of(id_):
    """A token of startalk-bench: run, flow, number and time, in hex."""
    return int(id_[4:10], 16), int(id_[10:18], 16)


def missing(acknowledged, rows, what):
    counts = collections.Counter(row.id for row in rows)
    return some([f"{what} {id_}: acknowledged, and {counts[id_]} times in the archive" for id_ in acknowledged if counts[id_] != 1])


def misplaced(record, rows, domain):
    """Of each flow the numbers ascend, from the right sender to the right recipient; what was marked as delivered is."""
    faults, last, marked = [], collections.defaultdict(lambda: -1), set(record.marks)
    run = record.receipts[0][:4] if record.receipts else None
    for row in rows:
        if len(row.id) != 32 or row.id[:4] != run:
            continue
        flow, number = flow_of(row.id)
        if (row.sender, row.recipient) != (f"u{2 * flow:05}@{domain}", f"u{2 * flow + 1:05}@{domain}"):
            faults.append(f"message {row.id}: from {row.sender} to {row.recipient} in the archive")
        if number <= last[flow]:
            faults.append(f"message {row.id}: number {number} is behind {last[flow]} in the archive")
        if row.id in marked and row.flag < 1:
            faults.append(f"message {row.id}: marked as delivered, and not so in the archive")
        last[flow] = number
    return some(faults)


def feed_misplaced(feed, rows):
    """Of each recipient, in the order sent, with the text sent."""
    sent, last = {id_: (number, to, text) for number, (id_, to, text) in enumerate(feed["sent"])}, collections.defaultdict(int)
    faults = []
    for row in rows:
        if row.id in sent:
            number, to, text = sent[row.id]
            if row.recipient != to or row.body != text:
                faults.append(f"feed {row.id}: another recipient or text in the archive")
            if number < last[to]:
                faults.append(f"feed {row.id}: out of order in the archive")
            last[to] = number
    return some(faults)


# ---- times ----


def p99(values):
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))] * 1000 if values else None


class Pauses:
    """Times in which the server was stopped, the archive was locked by somebody else, or the machine let nobody run, and what comes right
    behind them."""

    def __init__(self, pauses):
        self.spans = []
        for begin, end in sorted((pause["begin"], pause["end"] + RECOVERY + SHARE * (pause["end"] - pause["begin"])) for pause in pauses):
            if self.spans and begin <= self.spans[-1][1]:
                self.spans[-1][1] = max(end, self.spans[-1][1])
            else:
                self.spans.append([begin, end])
        self.ends = [end for _, end in self.spans]

    def touch(self, sent, arrived):
        """Did any of the message's way fall into one?"""
        at = bisect.bisect_right(self.ends, sent)
        return at < len(self.spans) and self.spans[at][0] <= arrived

    def seconds(self, begin, end):
        return sum(max(0, min(span[1], end) - max(span[0], begin)) for span in self.spans)


class Machine:
    """What stalls.py saw: how late a process ran that was ready, and that is not the server's."""

    def __init__(self, path):
        with open(path, encoding="ascii") as file:
            self.late = sorted(tuple(map(float, line.split())) for line in file)

    def stalls(self):
        return [{"begin": due, "end": ran} for due, ran in self.late if ran - due > LATE]

    def p99(self, begin, end):
        """Of the lateness of all wake-ups in that time, in ms; 0: too little to be told."""
        late = sorted((ran - due for due, ran in self.late if begin <= due < end), reverse=True)
        at = int((end - begin) / EVERY * 0.01)
        return late[at] * 1000 if at < len(late) else 0


Window = collections.namedtuple("Window", "begin end every clear")  # times of all deliveries, and of those outside of pauses


def windows(record, pauses, run):
    """By when messages were due."""
    length = run["window"]
    found = [Window(record.begin + at * length, record.begin + (at + 1) * length, [], []) for at in range(max(1, int(run["seconds"] / length)))]
    for sent, arrived in record.deliveries:
        window = found[min(len(found) - 1, int((sent - record.begin) / length))]
        window.every.append(arrived - sent)
        if not pauses.touch(sent, arrived):
            window.clear.append(arrived - sent)
    return found


def judge_window(window, start, late, bound):
    """What is wrong with it, or None."""
    here = p99(window.clear)
    if here is None or here <= bound:
        return None
    return (f"p99 of the delivery time is {here:.1f} ms from second {window.begin - start:.0f} to {window.end - start:.0f}; bound {bound} ms"
            + (f"; other processes were kept waiting, too: p99 {late:.1f} ms" if late > BUSY else ""))


def judge_times(run, record, machine):
    """faults, what cannot be said, and a table."""
    bound, faults, doubts = BOUND_SANITIZED_MS if run["sanitized"] else BOUND_MS, [], []
    pauses = Pauses(run["pauses"] + machine.stalls())
    found = windows(record, pauses, run)
    lines = [f"{'window':>13} {'messages':>9} {'p99 of all':>11} {'paused':>8} {'machine':>9} {'judged':>8} {'p99':>9}"]
    for window in found:
        late, here = machine.p99(window.begin, window.end), p99(window.clear)
        lines.append(f"{window.begin - record.begin:>5.0f}-{window.end - record.begin:>4.0f} s  {len(window.every):>9} {p99(window.every) or 0:>8.1f} ms "
                     f"{pauses.seconds(*window[:2]):>6.1f} s {late:>6.1f} ms {len(window.clear):>8} " + (f"{here:>6.1f} ms" if here else "        -"))
        if fault := judge_window(window, record.begin, late, bound):
            (doubts if late > BUSY else faults).append(fault)
    every, clear = ([time for window in found for time in window[at]] for at in (2, 3))
    if len(clear) < JUDGED_MIN * len(every):
        busy = machine.p99(found[0].begin, found[-1].end) > BUSY
        (doubts if busy else faults).append(f"only {len(clear)} of {len(every)} deliveries lie outside of pauses: too few to judge by")
    if clear:
        lines.append(f"whole run: p99 {p99(every):.1f} ms of all {len(every)} deliveries; {p99(clear):.1f} ms of the {len(clear)} outside of pauses, "
                     f"{max(p99(window.clear) or 0 for window in found):.1f} ms in the worst window; the slowest of these took {max(clear) * 1000:.0f} ms")
    return some(faults), some(doubts), lines


# ---- the process ----


def judge_process(run):
    faults, before, after = [], run["before"], run["after"]
    for what in ("sessions", "connections"):
        if after[what]:
            faults.append(f"{after[what]} {what} are left when all clients are gone")
    more = collections.Counter(after["files"]) - collections.Counter(before["files"])
    late = {name for name in more if re.search(r"\.db(-wal)?$", name) and after["files"].count(name) <= CONNECTIONS_MAX}
    if set(more) - late:
        faults.append(f"{after['fds']} descriptors, and {before['fds']} before: {dict(more)}")
    growth = after["rss"] / before["rss"] - 1
    if after["rss"] - before["rss"] > max(GROWTH_MAX * before["rss"], run["slack"]) and not run["sanitized"]:  # sanitizers keep what is freed
        faults.append(f"memory is {after['rss']} KiB, {growth:+.1%} of the {before['rss']} KiB before; bound {GROWTH_MAX:+.0%}")
    if run["exit"] != 0:
        faults.append(f"the server ended with status {run['exit']}")
    return faults + run["faults"], [f"memory: {before['rss']} KiB before, {after['rss']} after ({growth:+.1%}); "
                                    f"descriptors: {before['fds']} before, {after['fds']} after; "
                                    f"sessions left: {after['sessions']}, connections: {after['connections']}"]


def judge(folder):
    """(faults, what could not be shown, lines to print). Neither: all promises were kept."""
    with open(os.path.join(folder, "run.json"), encoding="utf-8") as file:
        run = json.load(file)
    with open(os.path.join(folder, "feed.json"), encoding="utf-8") as file:
        feed = json.load(file)
    record, rows = read_record(os.path.join(folder, "record")), read_archive(os.path.join(folder, "archive.db"))
    faults = [f"the well-behaved: {fault}" for fault in run["bench"]["faults"]]
    if not record.receipts or not feed["receipts"]:
        faults.append("no message was acknowledged: nothing was shown")
    faults += missing(record.receipts, rows, "message") + misplaced(record, rows, run["domain"])
    faults += missing(feed["receipts"], rows, "feed") + feed_misplaced(feed, rows)
    faults_of_times, doubts, times = judge_times(run, record, Machine(os.path.join(folder, "stalls")))
    faults_of_process, process = judge_process(run)
    lines = ["done: " + ", ".join(f"{name} {count}" for name, count in sorted(run["done"].items())),
             *times,
             f"messages: {len(record.receipts)} acknowledged, {len(record.deliveries)} delivered, {len(record.marks)} marks; to the frozen: "
             f"{len(feed['receipts'])} acknowledged; {len(rows)} in the archive",
             *process,
             "processor: " + ", ".join(f"{name} {share:.0%}" for name, share in run["cpu"].items())]
    return faults + faults_of_times + faults_of_process, doubts, lines
