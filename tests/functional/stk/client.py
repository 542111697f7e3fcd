# SPDX-License-Identifier: MIT
"""A blocking client with time-outs on everything."""
import base64
import json
import socket
import ssl
import time

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from . import wire
from .server import PATIENCE
from .wire import pb

RESOURCE = "V[200012]_P[PC64]_ID[e85cbbb43c7f4a87acc919ba29c19a5e]_C[1]_PB"


class Closed(Exception):
    """The server closed the connection; reset says how."""

    def __init__(self, reset):
        super().__init__("connection reset" if reset else "connection closed")
        self.reset = reset


class Client:
    def __init__(self, server, user="alice", domain=None, timeout=10 * PATIENCE, source=None, port=None):
        self.server, self.user, self.domain = server, user, domain or server.domain
        self.timeout = timeout
        self.sock = socket.create_connection(("127.0.0.1", port or server.port), timeout,
                                             source_address=(source, 0) if source else None)
        self.reader = wire.Reader()
        self.tls = self.incoming = self.outgoing = None
        self.records = []  # sizes of TLS records received
        self.receives = 0  # recv() calls that brought bytes
        self.raw = b""
        self.jid = None
        self.ids = 0

    @property
    def bare(self):
        return f"{self.user}@{self.domain}"

    def close(self):
        self.sock.close()

    # ---- bytes ----

    def send_bytes(self, data):
        if self.tls:
            self.tls.write(data)
            data = self.outgoing.read()
        self.sock.sendall(data)

    def _count_records(self, data):
        self.raw += data
        while len(self.raw) >= 5 and len(self.raw) >= 5 + int.from_bytes(self.raw[3:5], "big"):
            size = int.from_bytes(self.raw[3:5], "big")
            self.records.append(size)
            self.raw = self.raw[5 + size:]

    def _receive(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came")
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            raise Closed(True) from None
        if not data:
            raise Closed(False)
        self.receives += 1
        return data

    def _fill(self, deadline):
        data = self._receive(deadline)
        if not self.tls:
            self.reader.feed(data)
            return
        self._count_records(data)
        self.incoming.write(data)
        while True:
            try:
                self.reader.feed(self.tls.read(65536))
            except ssl.SSLWantReadError:
                return

    # ---- frames ----

    def next(self, timeout=None):
        """The next frame; TimeoutError, or Closed."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            frame = self.reader.next()
            if frame:
                return frame
            self._fill(deadline)

    def expect(self, signal, timeout=None, where=lambda frame: True):
        """The next frame of a kind; others are passed over."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        seen = []
        while True:
            try:
                frame = self.next(deadline - time.monotonic())
            except (TimeoutError, Closed) as error:
                raise AssertionError(f"no frame {signal}: {error!r}; seen {seen}") from error
            if frame.signal == signal and where(frame):
                return frame
            seen.append(frame)

    def quiet(self, seconds=0.3):
        """Nothing comes for a while."""
        try:
            frame = self.next(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"unexpected {frame}")

    def expect_end(self, code, timeout=None):
        """StreamEnd with this code, then the end of the connection. Returns the Closed."""
        end = self.expect(wire.STREAM_END, timeout)
        assert end.inner.code == code, end
        assert end.sender == "" and end.to == ""
        assert not end.proto.HasField("options")
        return self.expect_close(timeout)

    def expect_close(self, timeout=None):
        try:
            frame = self.next(timeout)
        except Closed as closed:
            return closed
        raise AssertionError(f"unexpected {frame}")

    def send(self, signal, inner, sender=None, to=None, **fields):
        self.send_bytes(wire.frame(signal, inner, sender, to, **fields))

    # ---- login ----

    def start_tls_bytes(self, minimum=None, maximum=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if minimum:
            context.minimum_version = minimum
        if maximum:
            context.maximum_version = maximum
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=self.domain)
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                self.incoming.write(self._receive(deadline))
        self.sock.sendall(self.outgoing.read())
        self.tls = tls

    def welcome(self, version="1.0", user=None, domain=None):
        user = self.user if user is None else user
        self.send(wire.WELCOME, pb.WelcomeMessage(domain=domain or self.domain, version=version, user=user))
        return self.expect(wire.WELCOME)

    def starttls(self, **kwargs):
        self.send(wire.STARTTLS, pb.StartTLS())
        proceed = self.expect(wire.PROCEED)
        self.start_tls_bytes(**kwargs)
        return proceed

    def rsa(self, password, key=None, user=None):
        """The credential of README 3.3 under the server's public key."""
        with open(key or self.server.path("state", "login-rsa.pub"), "rb") as file:
            public = load_pem_public_key(file.read())
        text = json.dumps({"p": password, "u": user or self.user, "a": "testapp", "d": "2021-03-01 19:47:38", "mk": "k"})
        return base64.b64encode(public.encrypt(text.encode(), padding.PKCS1v15())).decode()

    def send_auth(self, credential, user=None, authzid="", mechanism="PLAIN", key=None, message_id="PBMSG_1", sender=None):
        if key is None:
            key = base64.b64encode(f"{authzid}\0{self.user if user is None else user}\0{credential}".encode()).decode()
        auth = pb.AuthMessage(mechanism=mechanism, authKey=key)
        if message_id is not None:
            auth.msgId = message_id
        self.send(wire.AUTH, auth, sender)

    def auth(self, credential, **kwargs):
        """SUCCESS or FAILURE, whichever comes."""
        self.send_auth(credential, **kwargs)
        while True:
            frame = self.next()
            if frame.signal in (wire.SUCCESS, wire.FAILURE):
                return frame

    def bind(self, resource=RESOURCE, message_id="bind-1"):
        iq = pb.IQMessage(key="BIND", messageId=message_id)
        if resource is not None:
            iq.value = resource
        self.send(wire.IQ, iq)
        result = self.expect(wire.IQ)
        if result.inner.definedKey == 80:
            self.jid = result.inner.body.value
        return result

    def priority(self, value="5"):
        self.send(wire.PRESENCE, pb.PresenceMessage(key="priority", value=value, definedKey=1), self.jid)

    def login(self, password=None, resource=RESOURCE, tls=True, available=True, plain=False):
        """Everything up to being available; the notices are read. plain: no RSA outside TLS."""
        self.welcome()
        if tls:
            self.starttls()
        password = self.server.passwords[self.user] if password is None else password
        reply = self.auth(password if tls or plain else self.rsa(password))
        assert reply.signal == wire.SUCCESS, reply
        self.bind(resource)
        self.expect_notice(3)
        if available:
            self.priority()
            if resource and "_" in resource:
                self.expect_notice(9)
        return self

    # ---- after login ----

    def iq(self, **fields):
        """Sends an IQ and returns what answers it."""
        self.ids += 1
        to = fields.pop("to", None)
        iq = pb.IQMessage(**{"messageId": f"iq-{self.ids}", **fields})
        self.send(wire.IQ, iq, self.jid, to)
        return self.expect(wire.IQ, where=lambda frame: frame.inner.messageId == iq.messageId)

    def ping(self, **fields):
        return self.iq(key="PING", definedKey=50, **fields)

    def expect_notice(self, category, timeout=None):
        return self.expect(wire.PRESENCE, timeout, lambda frame: frame.inner.value == "notify" and frame.inner.categoryType == category)

    def notify(self, category, data, to=None):
        inner = pb.PresenceMessage(key="notify", definedKey=7, categoryType=category, body=pb.MessageBody(value=data))
        self.send(wire.PRESENCE, inner, self.jid, to)

    # ---- messages ----

    def message(self, to, text="hi", signal=wire.CHAT, message_id=None, kind=1, headers=(), sender=None, **fields):
        """Sends a message; headers are (name or number, value). Returns its id."""
        self.ids += 1
        message_id = f"{self.user}-{id(self)}-{self.ids}" if message_id is None else message_id
        inner = pb.XmppMessage(messageType=kind, clientType=3, clientVersion=200012, messageId=message_id,
                               body=pb.MessageBody(value=text), receivedTime=0)
        for name, value in headers:
            if isinstance(name, int):
                inner.body.headers.add(definedKey=name, value=value)
            else:
                inner.body.headers.add(key=name, value=value)
        self.send(signal, inner, sender or self.jid, to, **fields)
        return message_id

    def receipt(self, message_id, timeout=None):
        """The mstat for a message; what else comes before it is passed over."""
        return self.expect(wire.MSTAT, timeout, lambda frame: frame.inner.messageId == message_id)

    def revoke(self, to, message_id, text="revoke a message"):
        body = json.dumps({"messageId": message_id, "fromId": self.bare, "message": text})
        return self.message(to, body, wire.REVOKE, message_id, -1, [(3, body)])

    def mark(self, to, read_type, *message_ids, text=None):
        body = json.dumps([{"id": one} for one in message_ids]) if text is None else text
        return self.message(to, body, wire.READMARK, headers=[(5, str(read_type))])

    def status(self, show, priority="5"):
        inner = pb.PresenceMessage(key="status", value="user_update_status", messageId="s")
        inner.body.headers.add(key="show", value=show)
        inner.body.headers.add(key="priority", value=priority)
        self.send(wire.PRESENCE, inner, self.jid)
