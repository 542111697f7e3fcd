# SPDX-License-Identifier: MIT
"""Frames: length prefix, ProtoHeader, gzip and TEA, with protobuf classes made from the schema by protoc."""
import importlib
import os
import struct
import subprocess
import sys
import tempfile
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
_out = tempfile.TemporaryDirectory(prefix="stk-pb-")
subprocess.run(["protoc", "--proto_path", os.path.join(ROOT, "proto"), "--python_out", _out.name, "startalk.proto"], check=True)
sys.path.insert(0, _out.name)
pb = importlib.import_module("startalk_pb2")

PRESENCE, IQ, SUCCESS, FAILURE, CHAT, AUTH, STREAM_END, WELCOME, STARTTLS, PROCEED = 1, 2, 4, 5, 6, 45, 51, 100, 106, 108
GROUPCHAT, ERROR, TYPING, NOTE, READMARK, REVOKE, SUBSCRIPTION, MSTAT, HEADLINE = 7, 9, 10, 11, 13, 14, 15, 16, 17
WEBRTC, CARBON, CONSULT, ENCRYPT, COLLECTION = 110, 128, 132, 136, 140
INNER = {
    PRESENCE: pb.PresenceMessage, IQ: pb.IQMessage, SUCCESS: pb.ResponseSucceeded, FAILURE: pb.ResponseFailure,
    AUTH: pb.AuthMessage, STREAM_END: pb.StreamEnd, WELCOME: pb.WelcomeMessage, STARTTLS: pb.StartTLS, PROCEED: pb.ProceedTLS,
}
_DELTA, _MASK = 0x9E3779B9, 0xFFFFFFFF


def tea(data, encrypt):
    """TEA in ECB with an all-zero key; the last size % 8 bytes stay clear."""
    out = bytearray(data)
    for at in range(0, len(data) - 7, 8):
        y, z = struct.unpack_from(">II", data, at)
        if encrypt:
            total = 0
            for _ in range(32):
                total = (total + _DELTA) & _MASK
                y = (y + ((z << 4) ^ (z + total) ^ (z >> 5))) & _MASK
                z = (z + ((y << 4) ^ (y + total) ^ (y >> 5))) & _MASK
        else:
            total = (_DELTA * 32) & _MASK
            for _ in range(32):
                z = (z - ((y << 4) ^ (y + total) ^ (y >> 5))) & _MASK
                y = (y - ((z << 4) ^ (z + total) ^ (z >> 5))) & _MASK
                total = (total - _DELTA) & _MASK
        struct.pack_into(">II", out, at, y, z)
    return bytes(out)


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def gzip(data):
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def wrap(message, options=None):
    """A frame that holds a serialised ProtoMessage."""
    if options is None:
        options = 5 if len(message) <= 200 else 1
    hidden = tea(message, True) if options == 5 else gzip(message) if options == 1 else message
    return prefix(pb.ProtoHeader(options=options, message=hidden).SerializeToString())


def prefix(header):
    return varint(len(header)) + header


def message(signal, inner, sender=None, to=None, **fields):
    proto = pb.ProtoMessage(options=5, signalType=signal, message=inner.SerializeToString(), **fields)
    if sender is not None:
        setattr(proto, "from", sender)
    if to is not None:
        proto.to = to
    return proto.SerializeToString()


def frame(signal, inner, sender=None, to=None, **fields):
    return wrap(message(signal, inner, sender, to, **fields))


class Frame:
    """One frame from the server."""

    def __init__(self, header_bytes):
        self.header = pb.ProtoHeader.FromString(header_bytes)
        hidden = self.header.message
        if self.header.options == 5:
            hidden = tea(hidden, False)
        elif self.header.options == 1:
            hidden = zlib.decompress(hidden, wbits=31)
        self.size = len(hidden)
        self.proto = pb.ProtoMessage.FromString(hidden)
        self.signal = self.proto.signalType
        self.sender = getattr(self.proto, "from")
        self.to = self.proto.to
        self.inner = INNER.get(self.signal, pb.XmppMessage).FromString(self.proto.message)
        # A sender uses TEA for up to 200 bytes and gzip above.
        assert self.header.options == (5 if self.size <= 200 else 1)

    def headers(self):
        """The body's headers as (name or number, value), in order."""
        return [(h.definedKey if h.HasField("definedKey") else h.key, h.value) for h in self.inner.body.headers]

    def __repr__(self):
        return f"<{self.signal} {self.sender!r} -> {self.to!r}: {self.inner!s}>".replace("\n", " ")


class Reader:
    """Cuts bytes into frames."""

    def __init__(self):
        self.data = b""

    def feed(self, data):
        self.data += data

    def next(self):
        length = shift = 0
        for at, byte in enumerate(self.data[:4]):
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                if len(self.data) < at + 1 + length:
                    return None
                header = self.data[at + 1:at + 1 + length]
                self.data = self.data[at + 1 + length:]
                assert length, "the server never sends a frame of length 0"
                return Frame(header)
        return None
