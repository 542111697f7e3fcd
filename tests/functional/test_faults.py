# SPDX-License-Identifier: MIT
"""What goes wrong around the server: databases that are locked, read-only or damaged, certificates, the clock. Full disks and kills have
files of their own."""
import datetime
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from stk import wire

LOCKED_SECONDS = float(os.environ.get("STK_LOCKED_SECONDS", "3"))  # at night: 30


class Lock:
    """The sqlite3 command, which holds a write transaction open on a database of the server."""

    def __init__(self, server, name):
        self.process = subprocess.Popen(["sqlite3", "-cmd", ".timeout 5000", server.path("state", name)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.process.stdin.write("BEGIN IMMEDIATE; SELECT 'held';\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "held\n"

    def release(self):
        self.process.communicate("ROLLBACK;\n", timeout=10)


def test_a_locked_archive_delays_receipts_and_nothing_else(server, connect):
    alice, bob = connect(server).login(), connect(server, "bob").login()
    lock = Lock(server, "archive.db")
    started, slowest = time.monotonic(), 0
    ids = [alice.message("bob@example.org", f"number {i}") for i in range(20)]
    while time.monotonic() - started < LOCKED_SECONDS:
        asked = time.monotonic()
        assert bob.ping().inner.value == "ping"
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(0.05)
    newcomer = connect(server, "bob").login(resource="V_P[Mac]_new")
    lock.release()
    for message in ids:
        assert alice.receipt(message)
    assert [bob.expect(wire.CHAT).inner.messageId for _ in ids] == ids
    assert newcomer.ping().inner.value == "ping"
    assert slowest < 1, f"the slowest ping took {slowest * 1000:.0f} ms"
    print(f"locked for {LOCKED_SECONDS:.0f} s: the slowest of the pings took {slowest * 1000:.1f} ms")


def test_a_locked_user_table_stops_no_login(server, connect):
    connect(server).login(resource="before")
    lock = Lock(server, "startalk.db")
    connect(server).login(resource="meanwhile")
    connect(server, "bob").login()
    lock.release()


OTHER = 12345  # a user who is nobody


@pytest.mark.parametrize("name", ["startalk.db", "archive.db"])
def test_a_database_that_may_only_be_read_is_named_and_refused(make_server, name):
    """As another user: root may write everything."""
    if os.geteuid() != 0:
        pytest.skip("needs to be root to become another user")
    server = make_server()
    server.stop()
    for folder, _, files in os.walk(server.path()):
        for path in (folder, *(os.path.join(folder, file) for file in files)):
            os.chown(path, OTHER, OTHER)
    os.chown(server.path("state", name), 0, 0)
    os.chmod(server.path("state", name), 0o444)
    for folder in pathlib.Path(server.path()).parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o001)
    server.inside = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups"]
    if subprocess.run([*server.inside, server.startalkd, "--version"], capture_output=True).returncode:
        pytest.skip("that user may not execute the program")
    done = server.run()
    assert done.returncode != 0
    assert re.search(rf"db: \S*{name}: may only be read by user {OTHER}", done.stderr), done.stderr


@pytest.mark.parametrize("name", ["startalk.db", "archive.db"])
def test_a_damaged_database_is_named_and_a_backup_put_in_its_place_helps(make_server, connect, name):
    server = make_server()
    alice = connect(server).login()
    alice.receipt(alice.message("bob@example.org", "kept"))
    server.stop()
    path = server.path("state", name)
    shutil.copy(path, path + ".backup")
    with open(path, "r+b") as file:
        file.write(os.urandom(4096))
    done = server.run("--plan")
    assert done.returncode != 0
    assert name in done.stderr and "the database is damaged: stop the server, keep the file, and put a backup in its place" in done.stderr
    with open(path, "rb") as file:
        assert not file.read(16).startswith(b"SQLite format 3"), "it was left as it was"
    os.replace(path + ".backup", path)
    for rest in ("-wal", "-shm"):
        if os.path.exists(path + rest):
            os.unlink(path + rest)
    server.start()
    connect(server, "bob").login()


# ---- certificates ----


def make_pair(server, name, days):
    """A certificate that holds from 10 days ago until DAYS from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.utcnow()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    crt = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now - datetime.timedelta(10),
                                  now + datetime.timedelta(days)).sign(key, hashes.SHA256())
    pathlib.Path(server.path(f"{name}.crt")).write_bytes(crt.public_bytes(Encoding.PEM))
    pathlib.Path(server.path(f"{name}.key")).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_a_certificate_that_has_expired_or_is_about_to_is_told_and_used(make_server, connect):
    server = make_server(start=False, conf="[tls]\ncertificate = used.crt\nkey = used.key")
    for name, days in (("good", 100), ("soon", 3), ("expired", -3)):
        make_pair(server, name, days)

    def use(name):
        for end in ("crt", "key"):
            shutil.copy(server.path(f"{name}.{end}"), server.path(f"used.{end}"))
    use("good")
    server.start()
    assert not any("the certificate" in line and "warning" in line for line in server.lines)
    for name, text in (("soon", "the certificate expires on 20"), ("expired", "the certificate has expired on 20")):
        use(name)
        server.signal(signal.SIGHUP)
        server.wait_log(rf"warning tls: \S*used.crt: {text}\d\d-\d\d-\d\d")
        server.wait_log("certificate and key were read anew")
    connect(server).login()
    os.unlink(server.path("used.key"))
    server.signal(signal.SIGHUP)
    server.wait_log("used.key: the key cannot be read: No such file or directory")
    server.wait_log("the certificate in use stays")
    connect(server, "bob").login()


# ---- the clock ----

SHIM = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <sys/time.h>
#include <stdlib.h>
/* The time of day is off by what the file of STK_CLOCK says. */
static long off(void)
{
	char text[32] = "";
	FILE *file = fopen(getenv("STK_CLOCK"), "re");
	if (file) {
		if (!fgets(text, sizeof(text), file)) {
			*text = 0;
		}
		fclose(file);
	}
	return atol(text);
}
int clock_gettime(clockid_t id, struct timespec *now)
{
	int rc = (int)syscall(SYS_clock_gettime, id, now);
	if (rc == 0 && id == CLOCK_REALTIME) {
		now->tv_sec += off();
	}
	return rc;
}
int gettimeofday(struct timeval *now, void *zone)
{
	struct timespec time;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &time);
	now->tv_sec = time.tv_sec;
	now->tv_usec = time.tv_nsec / 1000;
	return 0;
}
time_t time(time_t *out)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (out) {
		*out = now.tv_sec;
	}
	return now.tv_sec;
}
"""


def test_a_clock_that_is_set_back_and_forth_stops_nothing(make_server, connect, tmp_path):
    server = make_server(start=False, login="user-tries = 3\nfailure-delay = 200ms", fast=False,
                         limits="stanza-rate = 100\nrate-burst = 1s")
    source, library, clock = tmp_path / "shim.c", tmp_path / "shim.so", tmp_path / "clock"
    source.write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
    clock.write_text("0")
    program = pathlib.Path(server.startalkd).read_bytes()
    if b"__asan_init" in program or b"__tsan_init" in program:
        pytest.skip("a sanitizer takes these functions itself")
    server.env = {"LD_PRELOAD": str(library), "STK_CLOCK": str(clock)}
    server.start()
    alice, bob = connect(server).login(), connect(server, "bob").login()
    stamps = []
    for off in (0, -3600, 7200, -86400):
        clock.write_text(str(off))
        message = alice.message("bob@example.org", f"at {off}")
        assert alice.receipt(message)
        stamps.append(bob.expect(wire.CHAT).inner.receivedTime)
        started = time.monotonic()
        stranger = connect(server, "bob", source=f"127.0.0.{10 + off % 7}")
        stranger.welcome()
        stranger.starttls()
        assert stranger.auth("wrong").signal == wire.FAILURE  # neither at once nor an hour later
        assert 0.15 < time.monotonic() - started < 5
        for _ in range(150):  # over the rate: slowed down, not for an hour
            alice.send(wire.PRESENCE, wire.pb.PresenceMessage(key="none"), alice.jid)
        started = time.monotonic()
        assert alice.ping().inner.value == "ping"
        assert time.monotonic() - started < 5
    assert stamps == sorted(stamps), "what comes later is never stamped earlier"
