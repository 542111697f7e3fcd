# SPDX-License-Identifier: MIT
"""Users that chat while their server is killed, and the question whether nothing was lost, doubled or swapped."""
import collections
import contextlib
import os
import random
import shutil
import sqlite3
import tempfile
import threading
import time

from . import wire
from .client import Client, Closed

Sent = collections.namedtuple("Sent", "sender to number id text")
Stored = collections.namedtuple("Stored", "sender to id text")  # JIDs bare, in the order of the history
Got = collections.namedtuple("Got", "sender id text")


def check(sent, receipted, stored, received):
    """What is wrong, in words; nothing: the server kept its promise. sent: every message handed to a socket; receipted: the ids
    whose mstat came; stored: the history, oldest first; received: user -> what came in, in order."""
    faults = []
    known = {message.id: message for message in sent}
    by_text = {message.text: message for message in sent}
    rows = collections.Counter(row.id for row in stored)
    came = {(user, got.id) for user, list_ in received.items() for got in list_}
    for id_ in receipted:
        message = known.get(id_)
        if not message:
            faults.append(f"a receipt for {id_!r}, which nobody sent")
            continue
        if rows[id_] != 1:
            faults.append(f"{message.text[:30]!r}: receipt seen, {rows[id_]} times in the history")
        if (message.to, id_) not in came:
            faults.append(f"{message.text[:30]!r}: receipt seen, not delivered")
    for row in stored:
        message = known.get(row.id)
        if not message or (row.sender, row.to, row.text) != (message.sender, message.to, message.text):
            faults.append(f"in the history, but not what was sent: {row}")
    for text, ids in _ids(stored, received).items():
        if len(ids) > 1:
            faults.append(f"{text[:30]!r}: has several ids: {sorted(ids)}")
    for user, list_ in received.items():
        faults += _order(f"received by {user}", [by_text.get(got.text) for got in list_], user)
    return faults + _order("history", [by_text.get(row.text) for row in stored])


def _ids(stored, received):
    ids = collections.defaultdict(set)
    for item in [*stored, *(got for list_ in received.values() for got in list_)]:
        ids[item.text].add(item.id)
    return ids


def _order(where, messages, to=None):
    """Of each pair of users the first occurrences must ascend."""
    faults, last, seen = [], collections.defaultdict(int), set()
    for message in messages:
        if not message or (to and message.to != to):
            faults.append(f"{where}: not what was sent to {to}: {message}")
        elif message.text not in seen:
            seen.add(message.text)
            if message.number < last[message.sender, message.to]:
                faults.append(f"{where}: {message.text[:30]!r} came after number {last[message.sender, message.to]}")
            last[message.sender, message.to] = message.number
    return faults


class Peer(threading.Thread):
    """A user whose client connects anew whenever its server is gone. Anything but that is a fault, kept in self.fault."""

    def __init__(self, traffic, user):
        super().__init__(name=user, daemon=True)
        self.traffic, self.user = traffic, user
        self.jid = f"{user}@{traffic.server.domain}"
        self.fault, self.logins, self.stopping = None, 0, False

    def run(self):
        while not self.stopping and not self.fault:
            if not self.traffic.up.wait(0.1):
                continue
            try:
                self._connect()
            except Exception as error:  # pylint: disable=broad-except
                if not is_end(error):
                    self.fault = error
                elif self.traffic.up.is_set():
                    time.sleep(0.005)

    def _connect(self):
        client = Client(self.traffic.server, self.user)
        try:
            self.logins += 1
            client.login(plain=True, resource=f"V[1]_P[PC64]_ID[{self.logins}]_C[1]_PB", tls=False)
            self.talk(client)
        finally:
            client.close()

    def frames(self, client, timeout):
        """What has come within a time; all that is there then."""
        try:
            while True:
                frame = client.next(timeout)
                assert frame.signal != wire.STREAM_END, frame
                yield frame
                timeout = 0.001
        except TimeoutError:
            return

    def talk(self, client):
        raise NotImplementedError

    def stop(self):
        self.stopping = True
        self.join(20)
        assert not self.is_alive(), f"{self.user} hangs"
        if self.fault:
            raise self.fault


def is_end(error):
    """Is this how a client sees its server die?"""
    return isinstance(error, (Closed, ConnectionError)) or isinstance(error.__cause__, (Closed, ConnectionError))


class Sender(Peer):
    """Keeps WINDOW messages in flight; after a reconnect sends those without a receipt again, in order, under their ids."""
    WINDOW = 12

    def __init__(self, traffic, user, recipients, seed):
        super().__init__(traffic, user)
        self.random = random.Random(f"{seed} {user}")
        self.recipients = recipients
        self.sent, self.receipted, self.waiting = [], [], {}
        self.finishing, self.done = False, False

    def next_message(self):
        number = len(self.sent) + 1
        to = self.random.choice(self.recipients)
        text = f"{self.user} to {to.user}, number {number} " + "x" * self.random.randrange(500)
        message = Sent(self.jid, to.jid, number, f"{self.random.getrandbits(128):032x}", text)
        self.sent.append(message)
        self.waiting[message.id] = message
        return message

    def talk(self, client):
        for message in list(self.waiting.values()):
            client.message(message.to, message.text, message_id=message.id)
        while not self.stopping:
            while len(self.waiting) < self.WINDOW and not self.finishing:
                message = self.next_message()
                client.message(message.to, message.text, message_id=message.id)
            for frame in self.frames(client, 0.05):
                self.take(frame)
            self.done = self.finishing and not self.waiting

    def take(self, frame):
        assert frame.signal != wire.ERROR, frame
        if frame.signal == wire.MSTAT and self.waiting.pop(frame.inner.messageId, None):
            self.receipted.append(frame.inner.messageId)


class Recipient(Peer):
    """Reads, and answers each message with the mark of being delivered, as clients do."""

    def __init__(self, traffic, user):
        super().__init__(traffic, user)
        self.received, self.ids = [], set()

    def talk(self, client):
        while not self.stopping:
            for frame in self.frames(client, 0.05):
                if frame.signal == wire.CHAT:
                    got = Got(frame.sender.split("/")[0], frame.inner.messageId, frame.inner.body.value)
                    self.received.append(got)
                    self.ids.add(got.id)
                    with contextlib.suppress(ConnectionError):  # what has come already is to be read all the same
                        client.mark(got.sender, 3, got.id)


class Traffic:
    """Senders and recipients of one server. Those recipients that are late come with drain()."""

    def __init__(self, server, seed, senders=8, online=2, late=2):
        self.server, self.seed = server, seed
        self.up = threading.Event()
        self.recipients = [Recipient(self, f"r{i}") for i in range(online + late)]
        self.online = self.recipients[:online]
        self.senders = [Sender(self, f"s{i}", self.recipients, seed) for i in range(senders)]

    @staticmethod
    def users(senders=8, recipients=4):
        names = [f"s{i}" for i in range(senders)] + [f"r{i}" for i in range(recipients)]
        return {name: f"the pw of {name}" for name in names}

    def start(self):
        self.up.set()
        for peer in [*self.online, *self.senders]:
            peer.start()

    def receipts(self):
        return sum(len(sender.receipted) for sender in self.senders)

    def in_flight(self):
        return sum(len(sender.waiting) for sender in self.senders)

    def kill(self):
        """SIGKILL and a new start. Returns how many messages had no receipt yet."""
        self.up.clear()
        self.server.kill()
        waiting = self.in_flight()
        self.server.start()
        self.up.set()
        return waiting

    def wait(self, what, seconds, why):
        until = time.monotonic() + seconds
        while not what():
            for peer in [*self.senders, *self.recipients]:
                if peer.fault:
                    raise peer.fault
            assert time.monotonic() < until, why
            time.sleep(0.005)

    def drain(self, seconds=30):
        """No new messages; waits until every one has its receipt, and everybody, the late ones too, all that is theirs."""
        for sender in self.senders:
            sender.finishing = True
        self.wait(lambda: all(sender.done for sender in self.senders), seconds, "messages without a receipt")
        for peer in self.recipients:
            if not peer.is_alive():
                peer.start()
        wanted = {peer: {message.id for sender in self.senders for message in sender.sent if message.to == peer.jid} for peer in self.recipients}
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(ids - peer.ids for peer, ids in wanted.items()):
            time.sleep(0.05)  # what does not come is found by check()

    def stop(self):
        for peer in [*self.senders, *self.recipients]:
            if peer.ident:  # it was started
                peer.stop()

    def faults(self, stored):
        sent = [message for sender in self.senders for message in sender.sent]
        receipted = [id_ for sender in self.senders for id_ in sender.receipted]
        return check(sent, receipted, stored, {peer.jid: peer.received for peer in self.recipients})


def history(server, folder=None):
    """What is in the archive of a server that is down. FOLDER: where its state directory is seen. A copy is read, since SQLite does
    not find its way through /proc/PID/root, and so that nothing is changed."""
    folder = folder or server.path("state")
    with tempfile.TemporaryDirectory() as place:
        for name in os.listdir(folder):
            if name.startswith("archive.db"):
                shutil.copy(os.path.join(folder, name), place)
        with contextlib.closing(sqlite3.connect(os.path.join(place, "archive.db"))) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = db.execute("SELECT sender, recipient, id, body FROM history WHERE type = 'chat' ORDER BY seq")
            return [Stored(*row) for row in rows]
