# SPDX-License-Identifier: MIT
"""Clients that behave badly: they log in and vanish, freeze, send garbage, or are cut in the middle of something. What they do comes from a
seeded deck; a few threads play it, so that the server meets several at a time."""
import base64
import collections
import concurrent.futures
import contextlib
import functools
import random
import socket
import ssl
import struct
import threading
import time

from stk import wire
from stk.client import Client, Closed
from stk.wire import pb

THREADS = 4
ANSWER = 90  # seconds that a login may take: beside a locked database a first login waits, too
ABANDONED_MAX = 400  # connections that nobody closes; beyond that the oldest are closed after all
FEED_BYTES = 6000  # of text that does not compress, in a message to the frozen
FROZEN_SECONDS = 4
RECEIVE = 4096  # bytes that the kernel keeps for one of the crowd
GONE = (Closed, OSError)  # how a client sees that its connection was ended, or that nothing came

FATES = {  # fate -> how many cards of it there are in a deck
    "vanish-reset": 3, "vanish-close": 3, "vanish-half": 2, "vanish-silently": 2,
    "freeze": 4, "garbage": 3, "garbage-at-door": 3, "cut-in-frame": 3, "cut-in-record": 2,
    "cut-in-connect": 2, "cut-in-welcome": 2, "cut-in-hello": 2, "cut-in-handshake": 2, "cut-in-login": 2,
}
OF_CONNECTIONS = {"garbage-at-door", "cut-in-connect", "cut-in-welcome", "cut-in-hello", "cut-in-handshake", "cut-in-login"}


def reset(sock):
    """Ends it with RST."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.contextmanager
def may_be_gone():
    """The server may have ended the connection already."""
    try:
        yield
    except GONE:
        pass
    except AssertionError as error:
        if not isinstance(error.__cause__, GONE):
            raise


def hello(client):
    """The first bytes of a TLS handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=client.domain).do_handshake()
    return outgoing.read()


@functools.cache
def bomb():
    return wire.gzip(b"\0" * 8_000_000)


def garbage(dice):
    """Bytes that are no frame, or a frame that holds nonsense."""
    noise = dice.randbytes(dice.randint(1, 3000))
    return dice.choice([
        lambda: noise,
        lambda: b"\xff\xff\xff\xff\x7f" + noise,  # a length without end
        lambda: wire.varint(1 << 27) + noise,  # a length beyond all limits
        lambda: b"\0" * len(noise),
        lambda: b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
        lambda: wire.prefix(noise),
        lambda: wire.prefix(pb.ProtoHeader(options=1, message=noise).SerializeToString()),  # no gzip
        lambda: wire.prefix(pb.ProtoHeader(options=1, message=bomb()).SerializeToString()),
        lambda: wire.wrap(pb.ProtoMessage(signalType=dice.randint(0, 200), message=noise).SerializeToString()),
        lambda: wire.wrap(b"\x0a\x05" * 9000),  # more fields than anybody sends
    ])()


class Feeder:
    """Sends to the frozen, and keeps what was acknowledged."""

    def __init__(self, crowd, user):
        self.lock, self.noise = threading.Lock(), random.Random(crowd.seed)
        self.crowd, self.client = crowd, crowd.login(user, "V_P[PC64]_feeder")
        self.sent, self.waiting, self.receipts = [], set(), []

    def feed(self, to, count):
        for _ in range(count):
            with self.lock:
                text = base64.b64encode(self.noise.randbytes(FEED_BYTES * 3 // 4)).decode()
                id_ = f"feed-{self.crowd.name}-{len(self.sent)}"
                self.sent.append((id_, to, text))
                self.waiting.add(id_)
                self.client.message(to, text, message_id=id_)

    def collect(self, seconds):
        """Takes receipts until nothing more is to come, or for so long."""
        until = time.monotonic() + seconds
        with self.lock:
            while self.waiting and time.monotonic() < until:
                with contextlib.suppress(TimeoutError):
                    frame = self.client.next(max(0.001, min(0.05, until - time.monotonic())))
                    if frame.signal in (wire.ERROR, wire.STREAM_END):
                        self.crowd.faults.append(f"to the feeder: signal {frame.signal}: {frame.inner.messageId if frame.signal == wire.ERROR else frame}")
                    if frame.signal == wire.MSTAT and frame.inner.messageId in self.waiting:
                        self.waiting.discard(frame.inner.messageId)
                        self.receipts.append(frame.inner.messageId)


class Crowd:
    """SIZE sessions that are up at a time, each of a user of its own; the users from FIRST on are theirs, the one before is the feeder's. NAME:
    in the ids of messages."""

    def __init__(self, name, server, seed, first, size):
        self.name, self.server, self.seed, self.first, self.size = name, server, seed, first, size
        self.dice = random.Random(f"{seed} crowd")
        self.deck = self.dice.sample(sorted(FATES), len(FATES))  # one of each first
        self.lock = threading.Lock()
        self.members, self.frozen, self.abandoned = [], collections.deque(), collections.deque()
        self.logins, self.done, self.faults = 0, collections.Counter(), []
        self.threads = concurrent.futures.ThreadPoolExecutor(THREADS)
        self.pending = set()
        self.feeder = None

    # ---- sessions ----

    def open(self, user):
        return Client(self.server, user, timeout=ANSWER)

    def login(self, user, resource="V_P[PC64]_chaos", receive=0):
        client = self.open(user)
        try:
            if receive:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            client.login(self.server.password, resource)
        except BaseException:
            client.close()
            raise
        return client

    def fill(self):
        """Brings everybody up, the feeder, too."""
        self.feeder = Feeder(self, f"u{self.first - 1:05}")
        for number in range(self.size):
            self.submit(self.join, number)
        self.settle()

    def join(self, number):
        """A new session, beside what the server may still hold of an older one."""
        with self.lock:
            self.logins += 1
            resource = f"V_P[PC64]_{self.logins}"
        client = self.login(f"u{self.first + number:05}", resource, RECEIVE)
        client.number = number
        with self.lock:
            self.members.append(client)

    def take(self, dice):
        """One of the crowd, who leaves it for what is to come; None: there is nobody."""
        with self.lock:
            if not self.members:
                return None
            at = dice.randrange(len(self.members))
            self.members[at], self.members[-1] = self.members[-1], self.members[at]
            return self.members.pop()

    def abandon(self, sock):
        self.abandoned.append(sock)
        while len(self.abandoned) > ABANDONED_MAX:
            with contextlib.suppress(IndexError):
                self.abandoned.popleft().close()

    def leave(self, dice, client):
        """Ends a connection in one of the ways that there are."""
        way = dice.randrange(4)
        if way == 0:
            reset(client.sock)
        elif way == 1:
            self.abandon(client.sock)
        else:
            client.close()

    # ---- the deck ----

    def submit(self, what, *args):
        with self.lock:
            self.pending.add(future := self.threads.submit(what, *args))
        future.add_done_callback(self._through)

    def _through(self, future):
        if future.exception():
            self.faults.append(f"in the crowd: {future.exception()!r}")
        with self.lock:
            self.pending.discard(future)

    def play(self):
        """The next card. Dealt by one thread, so that a seed is a sequence."""
        if not self.deck:
            self.deck = [fate for fate, count in FATES.items() for _ in range(count)]
            self.dice.shuffle(self.deck)
        fate, dice = self.deck.pop(), random.Random(self.dice.getrandbits(64))
        self.submit(self._play, fate, dice)

    def _play(self, fate, dice):
        self.thaw(dice, time.monotonic())
        act = getattr(self, fate.replace("-", "_"))
        if fate in OF_CONNECTIONS:
            with may_be_gone():
                act(dice, self.open(f"u{self.first + dice.randrange(self.size):05}"))
                self.done[fate] += 1
        elif client := self.take(dice):
            with may_be_gone():
                act(dice, client)
                self.done[fate] += 1
            if fate != "freeze":
                self.submit(self.join, client.number)

    # ---- fates of sessions ----

    def vanish_reset(self, dice, client):
        reset(client.sock)

    def vanish_close(self, dice, client):
        client.close()

    def vanish_half(self, dice, client):
        """Sends no more, but does not close."""
        client.sock.shutdown(socket.SHUT_WR)
        self.abandon(client.sock)

    def vanish_silently(self, dice, client):
        """Nothing tells the server that nobody is there any more."""
        self.abandon(client.sock)

    def freeze(self, dice, client):
        """Does not read while others send to it. Some have more to come than the server keeps for them."""
        self.frozen.append((time.monotonic() + FROZEN_SECONDS, client))
        self.feeder.feed(client.bare, dice.choice([1, 5, 20, 100]))
        self.feeder.collect(0.01)

    def thaw(self, dice, now):
        """Those frozen for long enough: half of them read what has come, whole frames to the last one; the others are gone."""
        while self.frozen and self.frozen[0][0] <= now:
            with self.lock:
                client = self.frozen.popleft()[1] if self.frozen else None
            if not client:
                return
            if dice.random() < 0.5:
                with contextlib.suppress(*GONE):
                    while client.next(0.2):
                        pass
            self.leave(dice, client)
            self.submit(self.join, client.number)

    def garbage(self, dice, client):
        client.send_bytes(garbage(dice))
        self.leave(dice, client)

    def cut_in_frame(self, dice, client):
        frame = wire.frame(wire.IQ, pb.IQMessage(key="PING", messageId="x" * dice.randint(1, 2000)))
        client.send_bytes(frame[:dice.randrange(1, len(frame))])
        self.leave(dice, client)

    def cut_in_record(self, dice, client):
        """Within TLS' own frame."""
        client.tls.write(wire.frame(wire.IQ, pb.IQMessage(key="PING", messageId="x")))
        record = client.outgoing.read()
        client.sock.sendall(record[:dice.randrange(1, len(record))])
        self.leave(dice, client)

    # ---- fates of connections ----

    def garbage_at_door(self, dice, client):
        if dice.random() < 0.5:
            client.welcome()
        if dice.random() < 0.5:
            client.send_bytes(wire.frame(wire.STARTTLS, pb.StartTLS()))  # and no TLS behind it
        client.send_bytes(garbage(dice))
        self.leave(dice, client)

    def cut_in_connect(self, dice, client):
        self.leave(dice, client)

    def cut_in_welcome(self, dice, client):
        frame = wire.frame(wire.WELCOME, pb.WelcomeMessage(domain=client.domain, version="1.0", user=client.user))
        client.send_bytes(frame[:dice.randrange(1, len(frame))])
        self.leave(dice, client)

    def _handshake(self, client):
        """Up to the first bytes of TLS; returns them."""
        client.welcome()
        client.send(wire.STARTTLS, pb.StartTLS())
        client.expect(wire.PROCEED)
        return hello(client)

    def cut_in_hello(self, dice, client):
        hello = self._handshake(client)
        client.sock.sendall(hello[:dice.randrange(1, len(hello))])
        self.leave(dice, client)

    def cut_in_handshake(self, dice, client):
        """The server has answered, and waits for the rest."""
        client.sock.sendall(self._handshake(client))
        client.sock.recv(dice.randint(1, 4096))
        self.leave(dice, client)

    def cut_in_login(self, dice, client):
        client.welcome()
        client.starttls()
        if dice.random() < 0.5:
            client.send_auth(self.server.password)  # and does not wait for the answer
        self.leave(dice, client)

    # ---- the end ----

    def settle(self, seconds=120):
        """Waits until all that was begun is through."""
        until = time.monotonic() + seconds
        while pending := self.pending.copy():
            if concurrent.futures.wait(pending, max(0, until - time.monotonic())).not_done:
                self.faults.append(f"in the crowd: {len(pending)} things do not end")
                return

    def close(self):
        """Everybody is gone, without a word."""
        self.settle()
        self.threads.shutdown(cancel_futures=True)
        for client in [*self.members, *(client for _, client in self.frozen)]:
            client.close()
        for sock in self.abandoned:
            sock.close()
        if self.feeder:
            self.feeder.client.close()
