# SPDX-License-Identifier: MIT
"""What goes wrong around the server: databases that are locked, read-only or damaged, certificates, the clock. Full disks and kills have
files of their own."""
import contextlib
import datetime
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from stk import wire
from stk.client import Closed
from stk.server import BUILD

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


def wait_behind_a_lock(server, client):
    """Seconds from the end of a lock of half a second to the receipt that waited for it."""
    with contextlib.closing(sqlite3.connect(server.path("state", "archive.db"), timeout=5, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        message = client.message("bob@example.org", "later")
        time.sleep(0.5)
        db.execute("ROLLBACK")
    ended = time.monotonic()
    assert client.receipt(message)
    return time.monotonic() - ended


def test_the_end_of_a_lock_is_seen_at_once(server, connect):
    """SQLite's own waiting would look every 100 ms by then."""
    alice, medians = connect(server).login(), []
    while len(medians) < 3 and min(medians, default=1) > 0.025:  # a busy machine is given another try
        medians.append(statistics.median(wait_behind_a_lock(server, alice) for _ in range(9)))
    print(f"receipts came {min(medians) * 1000:.1f} ms behind the end of a lock")
    assert min(medians) <= 0.025, medians


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


# ---- what the system refuses ----

REFUSES = r"""
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *piece, size_t size);
static int refuses(const char *what)
{
	const char *file = getenv(what);
	return file && access(file, F_OK) == 0;
}
/* No database can be written while there is the file of STK_READ_ONLY. */
ssize_t pwrite64(int fd, const void *in, size_t size, off_t at)
{
	if (refuses("STK_READ_ONLY")) {
		errno = EROFS;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, in, size, at);
}
/* There is no memory for anything large while there is the file of STK_POOR. */
#define LARGE 400000
void *malloc(size_t size)
{
	return size > LARGE && refuses("STK_POOR") ? NULL : __libc_malloc(size);
}
void *calloc(size_t count, size_t size)
{
	return size && count > LARGE / size && refuses("STK_POOR") ? NULL : __libc_calloc(count, size);
}
void *realloc(void *piece, size_t size)
{
	return size > LARGE && refuses("STK_POOR") ? NULL : __libc_realloc(piece, size);
}
"""


@pytest.fixture
def refusing(make_server, tmp_path):
    """refusing(NAME): a server, and the file that makes the system refuse what the shim above says."""
    def make(name):
        server = make_server(start=False)
        program = pathlib.Path(server.startalkd).read_bytes()
        if b"__asan_init" in program or b"__tsan_init" in program:
            pytest.skip("a sanitizer takes these functions itself")
        source, library, switch = tmp_path / "refuses.c", tmp_path / "refuses.so", tmp_path / "switch"
        source.write_text(REFUSES)
        subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
        server.env = {"LD_PRELOAD": str(library), name: str(switch)}
        return server.start(), switch
    return make


def test_a_database_that_becomes_read_only_refuses_messages_and_loses_none_that_had_a_receipt(refusing, connect):
    server, switch = refusing("STK_READ_ONLY")
    alice = connect(server).login()
    kept = [alice.message("bob@example.org", f"before {i}") for i in range(5)]
    for message in kept:
        assert alice.receipt(message)
    switch.touch()
    for i in range(5):
        message = alice.message("bob@example.org", f"refused {i}")
        error = alice.expect(wire.ERROR)
        assert error.inner.messageId == message and dict(error.headers())["errcode"][0] == "5"
    assert alice.ping().inner.value == "ping"
    server.wait_log("archive.db: cannot be written")
    switch.unlink()
    kept.append(alice.message("bob@example.org", "after"))
    assert alice.receipt(kept[-1])
    server.kill()
    server.start()
    bob = connect(server, "bob").login()
    assert [bob.expect(wire.CHAT).inner.messageId for _ in kept] == kept
    bob.quiet(0.3)


def test_without_memory_for_one_stanza_its_session_ends_and_others_go_on(refusing, connect):
    server, switch = refusing("STK_POOR")
    alice, bob = connect(server).login(), connect(server, "bob").login()
    switch.touch()
    alice.message("bob@example.org", "x" * 1_000_000)
    ended = False
    while not ended:
        try:
            ended = alice.next().signal == wire.STREAM_END
        except (Closed, ConnectionError):
            ended = True
    again = connect(server).login(resource="V_P[PC]_again")
    small = again.message("bob@example.org", "small")
    assert bob.expect(wire.CHAT).inner.messageId == small and again.receipt(small)
    switch.unlink()
    large = again.message("bob@example.org", "x" * 1_000_000)
    assert again.receipt(large) and bob.expect(wire.CHAT).inner.messageId == large
    server.wait_log("session: alice@.*: ended with 222: out of memory")


# ---- no name server ----


def test_the_server_looks_no_name_up(make_server, connect, tmp_path, monkeypatch):
    """Nothing of it is linked to what asks for names, and none of its system calls goes to where those are answered."""
    modules = pathlib.Path(BUILD, "modules").glob("*/*.so")
    needs = subprocess.run(["nm", "-D", "--undefined-only", f"{BUILD}/startalkd", *modules], capture_output=True, text=True, check=True)
    if "inet_pton" not in needs.stdout:
        pytest.skip("a sanitizer stands between the server and the C library")
    assert not re.search(r"\b(getaddrinfo|getnameinfo|gethostby\w+|res_n?(query|search|init))\b", needs.stdout)
    trace = tmp_path / "trace"
    if subprocess.run(["strace", "-D", "-qq", "-o", trace, "true"], capture_output=True).returncode:
        pytest.skip("strace does not work here")
    monkeypatch.setenv("STK_WRAPPER", f"strace -D -f -qq -e trace=openat,connect,sendto -o {trace}")
    server = make_server()
    monkeypatch.delenv("STK_WRAPPER")
    alice, bob = connect(server).login(), connect(server, "bob").login()
    assert alice.receipt(alice.message("bob@example.org", "hello")) and bob.expect(wire.CHAT)
    alice.message("carol@nowhere.example", "to another domain")
    assert alice.expect(wire.ERROR)
    server.stop()
    calls = trace.read_text()
    assert "startalkd.conf" in calls
    assert not re.search(r"resolv\.conf|/etc/hosts|nscd|htons\(53\)", calls)
