# SPDX-License-Identifier: MIT
"""startalk-frame: the recorded frames both ways, and what it does with what is wrong."""

import json
import os
import pathlib
import subprocess
import xml.etree.ElementTree as ElementTree
import zlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(os.environ.get("STK_BUILDDIR") or ROOT) / "startalk-frame"
CLOCK = "1614599258867"
VECTORS = [json.loads(line) for line in (ROOT / "tests/data/vectors.jsonl").read_text(encoding="utf-8").splitlines()]
FROM_CLIENT = [v for v in VECTORS if v["direction"] == "client->server"]
FROM_SERVER = [v for v in VECTORS if v["direction"] == "server->client"]
PING = "<iq id='p' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
PING_FRAME = next(v["hex"] for v in VECTORS if v["name"] == "opt-5-tea")


def run(*args, lines=None, text=None):
    """Output lines, error text, exit status."""
    if text is None:
        text = "".join(line + "\n" for line in lines or [])
    if isinstance(text, str):
        text = text.encode("utf-8")
    done = subprocess.run([TOOL, *args], input=text, capture_output=True, timeout=60, check=False)
    out = done.stdout.decode("utf-8")
    assert out == "" or out.endswith("\n")
    return out.split("\n")[:-1], done.stderr.decode("utf-8"), done.returncode


def tree(text):
    """XML in a form in which the order of attributes means nothing; ids of streams are left out."""
    if text.startswith("<stream:stream"):
        text += "</stream:stream>"
    if "xmlns:stream" not in text:
        text = text.replace("<stream:", "<stream_").replace("</stream:", "</stream_")

    def take(element):
        attributes = {k: v for k, v in element.attrib.items() if not (k == "id" and element.tag.endswith("}stream"))}
        children = [take(child) for child in element]
        return element.tag, attributes, element.text or "", children

    return take(ElementTree.fromstring(text))


# ---- a decoder of its own: nothing of it is the server's ----


def read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
        shift += 7


def fields(data):
    """[(number, value)] of a message; bytes for whatever has a length."""
    found, at = [], 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            value, at = read_varint(data, at)
        else:
            assert tag & 7 == 2
            size, at = read_varint(data, at)
            value, at = data[at : at + size], at + size
            assert len(value) == size
        found.append((tag >> 3, value))
    return found


def tea(data):
    out = b""
    for at in range(0, len(data) - len(data) % 8, 8):
        y, z = (int.from_bytes(data[i : i + 4], "big") for i in (at, at + 4))
        total = 0x9E3779B9 * 32 & 0xFFFFFFFF
        for _ in range(32):
            z = z - ((y << 4) ^ (y + total) ^ (y >> 5)) & 0xFFFFFFFF
            y = y - ((z << 4) ^ (z + total) ^ (z >> 5)) & 0xFFFFFFFF
            total = total - 0x9E3779B9 & 0xFFFFFFFF
        out += y.to_bytes(4, "big") + z.to_bytes(4, "big")
    return out + data[len(out) :]


def proto_message(text):
    data = bytes.fromhex(text)
    size, at = read_varint(data, 0)
    assert len(data) == at + size
    header = dict(fields(data[at:]))
    if header.get(2) == 1:
        return zlib.decompress(header[6], 31)
    return tea(header[6]) if header.get(2) == 5 else header[6]


# ---- the recorded frames ----


def test_every_frame_of_a_client_is_decoded():
    out, err, status = run("decode", lines=[v["hex"] for v in FROM_CLIENT])
    broken = [number for number, v in enumerate(FROM_CLIENT, 1) if v["stands_for"] == "broken"]
    assert status == 1 and broken
    assert [int(line.split()[2].rstrip(":")) for line in err.splitlines()] == broken
    assert len(out) == len(FROM_CLIENT)
    for vector, line in zip(FROM_CLIENT, out):
        if vector["stands_for"] == "stanza":
            wanted, found = tree(vector["xml"]), tree(line)
            if vector["name"] == "auth-plain-nomsgid":
                assert len(found[1].pop("id")) > 10 and wanted[1].pop("id")
            assert found == wanted, vector["name"]
        else:
            assert line == "", vector["name"]


def test_every_stanza_of_the_server_is_encoded():
    sessions = {v.get("session") for v in FROM_SERVER if v.get("xml")}
    assert len(sessions) == 1
    vectors = [v for v in FROM_SERVER if v.get("xml")]
    out, err, status = run("encode", "--session", sessions.pop(), "--now", CLOCK, lines=[v["xml"] for v in vectors])
    assert (err, status, len(out)) == ("", 0, len(vectors))
    for vector, line in zip(vectors, out):
        assert bool(line) == bool(vector["hex"]), vector["name"]
        if line:
            assert proto_message(line) == proto_message(vector["hex"]), vector["name"]


def test_every_frame_of_the_server_survives_both_ways():
    frames = [v["hex"] for v in FROM_SERVER if v["hex"]]
    stanzas, err, status = run("decode", "--side", "server", lines=frames)
    assert (err, status) == ("", 0) and all(stanzas)
    again, err, status = run("encode", "--side", "server", "--now", CLOCK, lines=stanzas)
    assert (err, status) == ("", 0)
    assert [proto_message(line) for line in again] == [proto_message(frame) for frame in frames]


def test_client_speaks_with_side_client():
    out, err, status = run("encode", "--side", "client", "--session", "alice@example.org/x", lines=[PING])
    assert (err, status) == ("", 0)
    envelope = dict(fields(proto_message(out[0])))
    assert envelope[2] == 2 and envelope[3] == b"alice@example.org/x"
    iq = dict(fields(envelope[5]))
    assert iq == {2: b"PING", 4: b"p", 11: 50}
    assert run("decode", lines=out)[0] == [PING]


# ---- lines ----


def test_lines_stay_aligned_when_some_fail():
    out, err, status = run("decode", lines=[PING_FRAME, "zz", "00", "", PING_FRAME.upper()])
    assert out == [PING, "", "", "", PING]
    assert err == "startalk-frame: line 2: not hex\n"
    assert status == 1


@pytest.mark.parametrize(
    "line, reason",
    [
        ("123", "not hex"),
        ("ffffffff01", "length of more than 4 bytes"),
        ("ff", "frame cut short"),
        (PING_FRAME[:-2], "frame cut short"),
        (PING_FRAME + "00", "bytes behind the frame"),
        ("0b100132076e6f74677a6970", "bad gzip"),
        ("04ffffffff", "malformed protobuf"),
        ("03320110", "malformed protobuf"),
        ("073205" + "10021a01ff", "text is not UTF-8"),
    ],
)
def test_broken_frames_are_named(line, reason):
    out, err, status = run("decode", lines=[line])
    assert (out, err, status) == ([""], f"startalk-frame: line 1: {reason}\n", 1)


@pytest.mark.parametrize(
    "line, reason",
    [
        ("<iq", "unclosed token"),
        ("<iq></message>", "mismatched tag"),
        ("<iq type='get'><a/></iq><iq/>", "junk after document element"),
        ("text", "syntax error"),
        ("<other/>", "not an element of the protocol"),
        ("<!DOCTYPE iq [<!ENTITY e 'x'>]><iq type='get'>&e;</iq>", "document type"),
        ("<iq type='get'>&nbsp;</iq>", "undefined entity"),
        ("<iq>" + "<a>" * 40 + "</a>" * 40 + "</iq>", "nested too deep"),
        ("<iq type='get'/>", "a stanza that this side never sends"),
        ("<starttls/>", "a stanza that this side never sends"),
    ],
)
def test_bad_stanzas_are_named(line, reason):
    out, err, status = run("encode", lines=[line])
    assert (out, err, status) == ([""], f"startalk-frame: line 1: {reason}\n", 1)


def test_input_that_is_not_utf8_is_refused():
    out, err, status = run("encode", text=b"<message type='chat'><body>\xff</body></message>\n")
    assert (out, status) == ([""], 1) and "line 1" in err


def test_last_line_needs_no_newline_and_cr_is_dropped():
    assert run("decode", text=PING_FRAME + "\r\n" + PING_FRAME)[0] == [PING, PING]
    assert run("decode", text="") == ([], "", 0)


def test_stanza_without_a_frame_gives_an_empty_line():
    out, err, status = run("encode", lines=["<presence/>", "<message type='chat'/>"])
    assert (out, err, status) == (["", ""], "", 0)


def test_white_space_between_elements_does_not_count_but_in_text_it_does():
    spaced = "<iq id='p' type='get' > <ping xmlns='urn:xmpp:ping'> </ping> </iq> "
    chat = "<message type='chat' msec_times='1' from='a@b' to='c@d'> <body id='m'> </body> </message>"
    out, err, status = run("encode", "--side", "client", lines=[spaced, chat])
    assert (err, status) == ("", 0)
    assert "<body id='m' msgType='1'> </body>" in run("decode", lines=out)[0][1]


def test_stream_header_may_be_open_or_closed():
    header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='d' version='1.0'"
    out, err, status = run("encode", lines=[header + ">", header + "/>", header + "></stream:stream>"])
    assert (err, status) == ("", 0) and out[0] and out[0] == out[1] == out[2]


def test_default_namespace_on_the_stanza_is_no_namespace():
    out, _, _ = run("encode", "--now", CLOCK, lines=["<presence xmlns='jabber:client'><show>away</show></presence>"])
    assert out == run("encode", "--now", CLOCK, lines=["<presence><show>away</show></presence>"])[0] != [""]


def test_session_supplies_from_and_to():
    out, _, _ = run("encode", "--session", "a@b/c", lines=["<iq type='result' id='i'/>"])
    envelope = dict(fields(proto_message(out[0])))
    assert envelope[3] == envelope[4] == b"a@b/c"


# ---- command line ----


@pytest.mark.parametrize(
    "args, reason",
    [
        ([], "say decode or encode"),
        (["recode"], "neither decode nor encode: recode"),
        (["decode", "encode"], "more than one command: encode"),
        (["decode", "--side", "both"], "--side is client or server, not: both"),
        (["decode", "--now", "soon"], "--now is a number of milliseconds, not: soon"),
        (["decode", "--frobnicate"], "--frobnicate"),
        (["decode", "--session"], "--session"),
    ],
)
def test_wrong_usage_is_named_and_exits_2(args, reason):
    out, err, status = run(*args)
    assert (out, status) == ([], 2)
    assert reason in err and "usage: startalk-frame decode|encode" in err


def test_help_and_version():
    out, err, status = run("--help")
    assert (err, status) == ("", 0) and "--session JID" in "\n".join(out)
    out, err, status = run("--version")
    assert (err, status) == ("", 0) and out[0].startswith("startalk-frame ")
