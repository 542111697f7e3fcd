# SPDX-License-Identifier: MIT
"""The state directory has no room left, and has room again."""
import itertools

import pytest
from stk import wire
from stk.disk import NoDisk, SmallDisk
from stk.traffic import Got, Sent, check, history

ALICE, BOB, CAROL = (f"{name}@example.org" for name in ("alice", "bob", "carol"))
BATCH = 20


@pytest.fixture
def disk():
    """Makes a small disk the state directory of a server; unmounted after the servers have stopped."""
    disks = []

    def mount(server):
        try:
            disks.append(SmallDisk(server.path("state"), 6 << 20))
        except NoDisk as error:
            pytest.skip(f"no small file system to be had: {error}")
        server.inside = disks[0].inside
        return disks[0]
    yield mount
    for made in disks:
        made.close()


class Writer:
    """Alice, who writes to bob and carol, several messages at a time, and notes what became of each."""

    def __init__(self, client):
        self.client, self.numbers = client, itertools.count(1)
        self.sent, self.receipted = {}, []

    def batch(self):
        """New messages. Returns those that were refused."""
        first = len(self.sent)
        return self.send([Sent(ALICE, CAROL if n % 2 else BOB, 0, f"id-{n}", f"number {n} " + "x" * 700) for n in range(first, first + BATCH)])

    def send(self, messages):
        """Every message has one answer. Returns those that were refused."""
        for message in messages:
            self.client.message(message.to, message.text, message_id=message.id)
            self.sent[message.id] = message._replace(number=next(self.numbers))  # the order that holds is that of the last try
        waiting, refused = {message.id for message in messages}, []
        while waiting:
            frame = self.client.next()
            if frame.signal not in (wire.MSTAT, wire.ERROR):
                continue
            waiting.remove(frame.inner.messageId)
            if frame.signal == wire.MSTAT:
                self.receipted.append(frame.inner.messageId)
            else:
                assert dict(frame.headers())["errcode"][0] == "5", frame
                refused.append(self.sent[frame.inner.messageId])
        return refused

    def receipts_by_recipient(self):
        return {to: {id_ for id_ in self.receipted if self.sent[id_].to == to} for to in (BOB, CAROL)}


def received(client, wanted, timeout=10):
    """What comes in until all that is wanted is there and nothing more comes."""
    came = []
    while True:
        missing = wanted - {got.id for got in came}
        try:
            frame = client.next(timeout if missing else 0.3)
        except TimeoutError:
            return came
        if frame.signal == wire.CHAT:
            came.append(Got(frame.sender.split("/")[0], frame.inner.messageId, frame.inner.body.value))


def test_a_full_disk_refuses_messages_and_loses_none_that_had_a_receipt(disk, make_server, connect):
    server = make_server(start=False, users={name: f"the pw of {name}" for name in ("alice", "bob", "carol")})
    small = disk(server)
    server.start()
    alice = Writer(connect(server).login())
    bob = connect(server, "bob").login()
    assert not alice.batch()
    refused = []
    for _ in range(100):  # for a while the space that the WAL holds already is enough
        small.fill()
        refused += alice.batch()
        if len(refused) >= 2 * BATCH:
            break
    assert len(refused) >= 2 * BATCH
    assert alice.client.ping().inner.value == "ping"
    carol, of = connect(server, "carol").login(), alice.receipts_by_recipient()
    came = {CAROL: received(carol, of[CAROL])}
    assert {got.id for got in came[CAROL]} == of[CAROL]  # reading needs no room
    carol.close()

    small.empty()
    assert not alice.batch()
    again, given_up = refused[:BATCH], refused[BATCH:]
    assert not alice.send(again)
    assert not alice.batch()
    of = alice.receipts_by_recipient()
    came[BOB] = received(bob, of[BOB])
    server.stop()
    server.start()
    came[CAROL] += received(connect(server, "carol").login(), of[CAROL])
    server.stop()

    stored = history(server, small.real)
    assert not check(alice.sent.values(), alice.receipted, stored, came)
    refused_ids = {message.id for message in given_up}
    assert not refused_ids & {row.id for row in stored}
    assert not refused_ids & {got.id for list_ in came.values() for got in list_}
