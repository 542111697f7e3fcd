# SPDX-License-Identifier: MIT
"""TLS: versions, tickets, certificates, and what clients need of records."""
import os
import signal
import ssl
import stat
import subprocess
import time

import pytest
from stk import wire
from stk.client import Closed
from stk.wire import pb


def peer_certificate(client):
    return client.tls.getpeercert(binary_form=True)


def secured(server, connect, **kwargs):
    client = connect(server)
    client.welcome()
    client.starttls(**kwargs)
    return client


@pytest.mark.parametrize("version, name", [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")])
def test_tls_1_2_and_1_3_log_in(server, connect, version, name):
    client = connect(server)
    client.welcome()
    client.starttls(minimum=version, maximum=version)
    assert client.tls.version() == name
    assert client.auth(server.passwords["alice"]).signal == wire.SUCCESS


def test_nothing_below_tls_1_2_is_spoken(server):
    done = subprocess.run(["openssl", "ciphers", "-s", "-tls1_1"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("this openssl cannot speak TLS 1.1")
    text = open(server.path("startalkd.conf"), encoding="utf-8").read().replace("port = 0", "port = 0\ntls = direct")
    open(server.path("startalkd.conf"), "w", encoding="utf-8").write(text)
    server.stop()
    server.start()
    for flag, works in (("-tls1_1", False), ("-tls1", False), ("-tls1_2", True)):
        done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", flag, "-cipher", "ALL:@SECLEVEL=0"],
                              input=b"", capture_output=True, timeout=20)
        assert (b"Cipher is (NONE)" not in done.stdout and b"BEGIN CERTIFICATE" in done.stdout) == works, (flag, done.stdout)


@pytest.mark.parametrize("tickets", ["off", "on"])
def test_session_tickets_are_off_unless_asked_for(make_server, connect, tickets):
    server = make_server(conf=f"[tls]\nsession-tickets = {tickets}")
    client = secured(server, connect)
    assert client.tls.version() == "TLSv1.3"
    client.send(wire.IQ, pb.IQMessage(key="PING", messageId="p"))
    client.expect(wire.IQ)
    # Tickets are records of their own, before that of the answer.
    assert (len(client.records) > 1 or client.tls.session.has_ticket) == (tickets == "on")


def test_direct_tls_speaks_from_the_first_byte(make_server, connect):
    server = make_server(listen="tls = direct")
    client = connect(server)
    client.start_tls_bytes()
    assert client.welcome().inner.sockmod == ""
    assert client.auth(server.passwords["alice"]).signal == wire.SUCCESS


def test_several_listeners_serve_at_once(make_server, connect):
    server = make_server(conf="[listen secure]\nport = 0\ntls = direct")
    assert len(server.ports) == 2
    connect(server).login()
    client = connect(server, port=server.ports[1])
    client.start_tls_bytes()
    client.welcome()


def test_a_self_signed_pair_is_made_once_and_said_so(make_server, connect):
    server = make_server()
    server.wait_log("tls: .*/tls.crt: self-signed certificate made")
    assert stat.S_IMODE(os.stat(server.path("state", "tls.key")).st_mode) == 0o600
    text = subprocess.run(["openssl", "x509", "-noout", "-text", "-in", server.path("state", "tls.crt")], capture_output=True, text=True).stdout
    assert "prime256v1" in text and "DNS:example.org" in text
    first = peer_certificate(secured(server, connect))
    server.stop()
    server.start()
    assert peer_certificate(secured(server, connect)) == first
    assert not any("self-signed" in line for line in server.lines)


def make_pair(server, name):
    crt, key = server.path(f"{name}.crt"), server.path(f"{name}.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", f"/CN={name}", "-keyout", key, "-out", crt], check=True, capture_output=True)
    return crt, key


def test_sighup_reads_the_certificate_anew_and_keeps_the_old_one_when_it_is_bad(make_server, connect):
    server = make_server(start=False, conf="[tls]\ncertificate = used.crt\nkey = used.key")
    for name in ("one", "two"):
        make_pair(server, name)

    def use(name):
        for end in ("crt", "key"):
            os.replace(server.path(f"{name}.{end}"), server.path(f"used.{end}"))
    use("one")
    server.start()
    old = connect(server).login()
    first = peer_certificate(old)
    use("two")
    server.signal(signal.SIGHUP)
    server.wait_log("tls: certificate and key were read anew")
    second = peer_certificate(secured(server, connect))
    assert second != first
    assert old.ping().inner.value == "ping"
    with open(server.path("used.crt"), "w", encoding="utf-8") as file:
        file.write("broken")
    server.signal(signal.SIGHUP)
    server.wait_log("the certificate in use stays")
    assert peer_certificate(secured(server, connect)) == second


def test_every_frame_has_a_tls_record_of_its_own_and_a_burst_few_segments(server, connect):
    client = connect(server).login()
    client.records.clear()
    client.receives = 0
    burst = b"".join(wire.frame(wire.IQ, pb.IQMessage(key="PING", messageId=f"b{i}")) for i in range(200))
    client.send_bytes(burst)
    for i in range(200):
        assert client.expect(wire.IQ).inner.messageId == f"b{i}"
    assert len(client.records) == 200
    assert client.receives < 50


def test_frames_over_16_kib_span_records_and_arrive_whole(server, connect):
    alice, bob = connect(server).login(), connect(server, "bob").login()
    data = os.urandom(50_000).hex()
    alice.notify(7, data, "bob@example.org")
    assert bob.expect_notice(7).inner.body.value == data


def test_a_client_that_vanishes_in_the_handshake_harms_nobody(server, connect):
    for sent in (0, 50):
        client = connect(server)
        client.welcome()
        client.send(wire.STARTTLS, pb.StartTLS())
        client.expect(wire.PROCEED)
        client.send_bytes(b"\x16\x03\x01\x02\x00" + b"\x01" * sent)
        client.close()
    connect(server).login()


def test_renegotiation_is_not_done(server, connect):
    client = secured(server, connect, maximum=ssl.TLSVersion.TLSv1_2)
    # A handshake record in the middle of the session: a HelloRequest is for servers only, a ClientHello asks to renegotiate.
    client.sock.sendall(b"\x16\x03\x03\x00\x04\x01\x00\x00\x00")
    with pytest.raises((Closed, ssl.SSLError)):
        deadline = time.monotonic() + 10
        while True:
            client._fill(deadline)
