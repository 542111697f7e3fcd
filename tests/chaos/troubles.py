# SPDX-License-Identifier: MIT
"""What befalls the server as a whole: it is stopped and continued, its databases are locked by somebody else, its modules are reloaded. One at
a time, from a seeded deck."""
import collections
import contextlib
import random
import signal
import sqlite3
import threading
import time

LOCK_WAIT = 20  # seconds that getting a lock may take
TROUBLES = {"stop": 3, "lock-archive": 2, "lock-users": 2, "reload": 6}

# file of plugins.d -> what may stand in it; None: no file
CHOICES = {
    "35-archive": ("[archive]\n", "[archive]\nrevoke-window = 60s\n", "[archive]\npush-offline = off\n"),
    "36-message": ("[message]\n", "[message]\ncopies = note\n", "[message]\ncopies = chat, note\n"),
    "30-presence": ("[presence]\n", "[presence]\nnavversion = 7\n"),
    "40-ping": (None, "[ping]\n"),
}


class Troubles:
    """PAUSES: those times in which messages had to wait, because the server was stopped or its archive was locked. LOCK_MAX: seconds."""

    def __init__(self, server, seed, lock_max):
        self.server, self.lock_max = server, lock_max
        self.dice = random.Random(f"{seed} troubles")
        self.deck = self.dice.sample(sorted(TROUBLES), len(TROUBLES))  # one of each first
        self.done, self.faults, self.pauses = collections.Counter(), [], []
        self.enough = threading.Event()
        self.usual = {name: self.server.read_plugin(name) for name in CHOICES}

    def run(self, until, every):
        """One after another until it is time, EVERY seconds apart on average."""
        self.enough.clear()
        try:
            while time.monotonic() < until and self.server.process.poll() is None:
                self.play()
                if self.enough.wait(every * self.dice.uniform(0.5, 1.5)):
                    return
        except Exception as error:  # pylint: disable=broad-except
            self.faults.append(f"troubles: {error!r}")

    def play(self):
        if not self.deck:
            self.deck = [name for name, count in TROUBLES.items() for _ in range(count)]
            self.dice.shuffle(self.deck)
        name = self.deck.pop()
        getattr(self, name.replace("-", "_"))()
        self.done[name] += 1

    def stop(self):
        began = time.monotonic()
        self.server.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(self.dice.uniform(0.1, 0.6))
        finally:
            self.server.process.send_signal(signal.SIGCONT)
        self.pauses.append({"what": "stop", "begin": began, "end": time.monotonic()})

    def _lock(self, name):
        """Returns when it was got, and when it was given back."""
        kind, seconds, until = self.dice.choice(["IMMEDIATE", "EXCLUSIVE"]), self.dice.uniform(0.3, self.lock_max), time.monotonic() + LOCK_WAIT
        with contextlib.closing(sqlite3.connect(self.server.file(name), timeout=0, isolation_level=None)) as db:
            while True:
                began = time.monotonic()
                try:
                    db.execute(f"BEGIN {kind}")
                    break
                except sqlite3.OperationalError:
                    if began > until:
                        raise
                    time.sleep(0.001)
            time.sleep(seconds)
            db.execute("ROLLBACK")
            return began, time.monotonic()

    def lock_archive(self):
        began, ended = self._lock("archive.db")
        self.pauses.append({"what": "lock", "begin": began, "end": ended})

    def lock_users(self):
        """No message waits for it, so it excuses nothing."""
        self._lock("startalk.db")

    def _reload(self):
        line = self.server.reload()
        if not line.endswith("reload: done"):
            self.faults.append(f"a reload that should work: {line}")

    def reload(self):
        for name in self.dice.sample(sorted(CHOICES), self.dice.randint(1, len(CHOICES))):
            self.server.write_plugin(name, self.dice.choice(CHOICES[name]))
        self._reload()

    def forget(self):
        """What was done so far was for practice."""
        self.done.clear()
        self.pauses.clear()

    def restore(self):
        """Everything is configured as it was."""
        for name, text in self.usual.items():
            self.server.write_plugin(name, text)
        self._reload()
