# SPDX-License-Identifier: MIT
"""startalkctl backup and restore: one file, made while messages flow, and a server that goes on from it."""
import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
import threading
import time

import pytest
from stk import wire
from stk.disk import NoDisk, SmallDisk
from stk.server import program
from stk.traffic import Traffic, history

PLAIN = "[auth_sqlite]\nplain-without-tls = on"


def ok(done):
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def refused(done, *texts):
    assert done.returncode == 1 and done.stdout == "", done
    for text in texts:
        assert text in done.stderr, done


def manifest(path):
    with tarfile.open(path) as tar:
        return json.load(tar.extractfile("manifest.json"))


def repack(path, out, change):
    """The same archive with its files changed by change(name, data) -> data, or None: left out."""
    with tarfile.open(path) as tar, tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as to:
        for member in tar.getmembers():
            data = change(member.name, tar.extractfile(member).read())
            if data is not None:
                member.size = len(data)
                to.addfile(member, io.BytesIO(data))


def with_manifest(change):
    def edit(name, data):
        if name != "manifest.json":
            return data
        root = json.loads(data)
        change(root)
        return json.dumps(root).encode()
    return edit


@pytest.fixture
def saved(server, tmp_path, connect):
    """A server that was stopped, and a backup of it."""
    alice = connect(server).login()
    alice.message("bob@example.org", "kept", message_id="m1")
    alice.receipt("m1")
    path = str(tmp_path / "b.tar")
    ok(server.ctl("backup", path))
    server.stop()
    return path


def grow(server, megabytes):
    """An archive that takes its time."""
    path = server.path("state", "archive.db")
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as db:
        db.execute("CREATE TABLE ballast (data BLOB)")
        for _ in range(megabytes):
            db.execute("INSERT INTO ballast VALUES (randomblob(1000000))")
        db.commit()


def test_a_backup_under_chat_has_all_that_had_its_receipt_before_it_began(make_server, tmp_path):
    server = make_server(users=Traffic.users(), plugins={"10-auth_sqlite": PLAIN})
    grow(server, 60)
    traffic = Traffic(server, 1, late=0)
    path = str(tmp_path / "b.tar")
    traffic.start()
    try:
        traffic.wait(lambda: traffic.receipts() > 200, 20, "no traffic")
        before = {id_ for sender in traffic.senders for id_ in list(sender.receipted)}
        began, receipts = time.monotonic(), traffic.receipts()
        ok(server.ctl("backup", path))
        took, during = time.monotonic() - began, traffic.receipts() - receipts
        traffic.drain()
    finally:
        traffic.stop()
    server.stop()
    print(f"{os.path.getsize(path)} bytes in {took:.2f} s, {during} receipts meanwhile")
    assert during > 50, "nothing went on beside the backup"
    key = open(server.path("state", "login-rsa.key"), "rb").read()
    shutil.rmtree(server.path("state"))
    ok(server.ctl("restore", path))
    assert open(server.path("state", "login-rsa.key"), "rb").read() == key
    stored = history(server)
    assert before <= {row.id for row in stored}
    assert not [fault for fault in traffic.faults(stored) if "in the history, but" in fault or "history: " in fault]
    server.start()


def test_a_server_goes_on_from_a_backup(saved, server, connect):
    shutil.rmtree(server.path("state"))
    out = ok(server.ctl("restore", saved))
    assert f"{server.path('state')}: " in out
    server.start()
    bob = connect(server, "bob").login()
    assert bob.expect(wire.CHAT).inner.body.value == "kept"


def test_the_file_is_a_private_tar_archive_whose_manifest_is_true(saved, server):
    assert stat.S_IMODE(os.stat(saved).st_mode) == 0o600
    root = manifest(saved)
    assert root["format"] == 1 and root["program"] == "startalkd" and root["version"] and abs(root["made"] / 1000 - time.time()) < 600
    files = {file["name"]: file for file in root["files"]}
    assert {"startalk.db", "archive.db", "login-rsa.key", "login-rsa.pub", "tls.crt", "tls.key"} <= set(files)
    assert files["startalk.db"]["schemas"]["auth_sqlite"] >= 1 and files["archive.db"]["schemas"]["archive"] >= 1
    with tarfile.open(saved) as tar:
        assert tar.getnames() == [file["name"] for file in root["files"]] + ["manifest.json"]
        for name, file in files.items():
            data = tar.extractfile(name).read()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])
    listed = subprocess.run(["tar", "tf", saved], capture_output=True, text=True, check=True)
    assert "manifest.json" in listed.stdout and listed.stderr == ""
    assert not [name for name in os.listdir(os.path.dirname(saved)) if ".tmp" in name]


def test_a_name_is_meant_in_the_caller_s_folder(server, tmp_path):
    done = subprocess.run([program("startalkctl"), "-c", server.path("startalkd.conf"), "--json", "backup", "b.tar"], cwd=tmp_path,
                          capture_output=True, text=True, timeout=60)
    line = json.loads(ok(done).splitlines()[-1])
    assert line["file"] == str(tmp_path / "b.tar") and line["bytes"] == os.path.getsize(tmp_path / "b.tar")


def test_what_cannot_be_written_is_told(server, tmp_path):
    (tmp_path / "there").write_text("mine")
    refused(server.ctl("backup", str(tmp_path / "there")), "there already")
    assert (tmp_path / "there").read_text() == "mine"
    refused(server.ctl("backup", str(tmp_path / "no" / "folder")), "No such file or directory")
    refused(server.ctl("backup", "/proc/b.tar"), "cannot be written")
    assert server.ctl("backup").returncode == 2


def test_a_full_disk_is_told_and_leaves_nothing(make_server, tmp_path):
    server = make_server()
    try:
        disk = SmallDisk(str(tmp_path / "small"), "3m")
    except NoDisk as why:
        pytest.skip(str(why))
    if disk.inside:
        disk.close()
        pytest.skip("the server does not see a disk of a namespace")
    try:
        grow(server, 6)
        refused(server.ctl("backup", disk.path("b.tar")), "No space left on device", "b.tar")
        assert os.listdir(disk.folder) == []
        ok(server.ctl("status"))
    finally:
        disk.close()


def test_a_damaged_database_makes_no_backup(make_server, tmp_path):
    server = make_server()
    grow(server, 2)
    path = server.path("state", "extra.db")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x TEXT)")
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 100)
        db.execute("CREATE INDEX i ON t (x)")
        db.commit()
    with open(path, "r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    refused(server.ctl("backup", str(tmp_path / "b.tar")), "extra.db", "damaged")
    assert not (tmp_path / "b.tar").exists() and not list(tmp_path.glob("b.tar*"))


def start_backup(server, path):
    """A backup that runs for a while."""
    ctl = subprocess.Popen([program("startalkctl"), "-c", server.path("startalkd.conf"), "backup", path], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 10
    while not os.path.exists(path + ".tmp"):
        assert time.monotonic() < until and ctl.poll() is None, "it does not begin"
        time.sleep(0.002)
    return ctl


def test_killed_in_the_middle_nothing_stands_under_the_final_name(make_server, tmp_path):
    server = make_server()
    grow(server, 120)
    path = str(tmp_path / "b.tar")
    ctl = start_backup(server, path)
    server.kill()
    assert ctl.wait(20) == 3 and not os.path.exists(path)
    ctl.communicate()
    server.start()
    ok(server.ctl("backup", path))
    assert sorted(os.listdir(tmp_path)) == ["b.tar", "server0"]


def test_a_server_that_stops_gives_a_backup_up(make_server, tmp_path):
    server = make_server()
    grow(server, 120)
    path = str(tmp_path / "b.tar")
    ctl = start_backup(server, path)
    refused(server.ctl("backup", str(tmp_path / "c.tar")), "another backup is under way")
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5
    assert ctl.wait(20) != 0 and "given up" in ctl.communicate()[1]
    assert os.listdir(tmp_path) == ["server0"]


def test_a_caller_that_goes_away_gives_it_up(make_server, tmp_path):
    server = make_server()
    grow(server, 250)
    ctl = start_backup(server, str(tmp_path / "b.tar"))
    ctl.kill()
    ctl.communicate()
    server.wait_log("backup: given up before its end", 30)
    assert os.listdir(tmp_path) == ["server0"]


def test_nothing_waits_for_a_backup(make_server, connect, tmp_path):
    server = make_server()
    grow(server, 120)
    alice = connect(server).login()
    ctl = start_backup(server, str(tmp_path / "b.tar"))
    slowest, count = 0, 0
    while ctl.poll() is None:
        began = time.monotonic()
        alice.message("bob@example.org", f"text {count}", message_id=f"m{count}")
        alice.receipt(f"m{count}")
        slowest, count = max(slowest, time.monotonic() - began), count + 1
    assert ctl.returncode == 0, ctl.communicate()
    ctl.communicate()
    print(f"{count} messages meanwhile, the slowest receipt after {slowest * 1000:.1f} ms")
    assert count > 10 and slowest < 2


# ---- restore ----

def test_restore_refuses_while_a_server_runs(saved, server):
    server.start()
    refused(server.ctl("restore", saved, "--force"), "a server runs", "stop it first")


def test_restore_replaces_data_only_by_force_and_keeps_it_aside(saved, server, connect):
    server.start()
    ok(server.ctl("user", "add", "later", input="pw\n"))
    server.stop()
    refused(server.ctl("restore", saved), "--force")
    out = ok(server.ctl("restore", "--force", saved))
    aside = [name for name in os.listdir(server.folder) if name.startswith("state.before-restore-")]
    assert len(aside) == 1 and aside[0] in out
    with contextlib.closing(sqlite3.connect(server.path(aside[0], "startalk.db"))) as db:
        assert db.execute("SELECT count(*) FROM users WHERE username = 'later'").fetchone() == (1,)
    assert sorted(os.listdir(server.folder)) == sorted(["plugins.d", "startalkd.conf", "state", *aside])
    assert stat.S_IMODE(os.stat(server.path("state")).st_mode) == stat.S_IMODE(os.stat(server.path(aside[0])).st_mode)
    server.start()
    assert "later" not in ok(server.ctl("user", "list"))
    connect(server).login()


@pytest.mark.parametrize("what, change, says", [
    ("a newer format", with_manifest(lambda root: root.update(format=2)), "newer than this program"),
    ("no manifest", lambda name, data: None if name == "manifest.json" else data, "no whole backup"),
    ("a missing file", lambda name, data: None if name == "archive.db" else data, "not what its manifest says"),
    ("another size", lambda name, data: data + b"x" if name == "login-rsa.pub" else data, "not what its manifest says"),
    ("one bit", lambda name, data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:] if name == "archive.db" else data, "checksum"),
])
def test_restore_refuses_a_backup_with(saved, server, tmp_path, what, change, says):
    bad = str(tmp_path / "bad.tar")
    repack(saved, bad, change)
    before = sorted(os.listdir(server.path("state")))
    refused(server.ctl("restore", bad, "--force"), says)
    assert sorted(os.listdir(server.path("state"))) == before and sorted(os.listdir(server.folder)) == ["plugins.d", "startalkd.conf", "state"]


def change_database(sql):
    """Changes startalk.db and what the manifest says of it."""
    sums = {}

    def edit(name, data):
        if name == "startalk.db":
            with contextlib.closing(sqlite3.connect(":memory:")) as db:
                db.deserialize(data)
                db.executescript(sql)
                data = db.serialize()
            sums.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
        if name == "manifest.json":
            root = json.loads(data)
            next(file for file in root["files"] if file["name"] == "startalk.db").update(sums)
            data = json.dumps(root).encode()
        return data
    return edit


def test_restore_refuses_tables_that_are_newer_than_the_program(saved, server, tmp_path):
    bad = str(tmp_path / "bad.tar")
    repack(saved, bad, change_database("UPDATE schema_version SET version = 99 WHERE module = 'auth_sqlite'"))
    refused(server.ctl("restore", bad, "--force"), "auth_sqlite have version 99", "nothing has changed")
    assert sorted(os.listdir(server.folder)) == ["plugins.d", "startalkd.conf", "state"]


@pytest.mark.parametrize("size", [0, 100, 512, 5000, -600])
def test_restore_refuses_a_backup_that_was_cut_off(saved, server, tmp_path, size):
    data = open(saved, "rb").read()
    bad = str(tmp_path / "bad.tar")
    with open(bad, "wb") as file:
        file.write(data[:-2048 + size if size < 0 else size])
    refused(server.ctl("restore", bad, "--force"), "no whole backup")


def test_restore_writes_nowhere_else_whatever_names_a_backup_has(saved, server, tmp_path):
    for name in ("../evil", "/tmp/evil", "sub/evil", ".evil"):
        bad = str(tmp_path / "bad.tar")
        with tarfile.open(bad, "w", format=tarfile.USTAR_FORMAT) as to:
            to.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
        refused(server.ctl("restore", bad, "--force"), "no whole backup")
    assert not list(tmp_path.rglob("*evil*"))


def test_restore_with_the_state_directory_alone(saved, server):
    shutil.rmtree(server.path("state"))
    done = subprocess.run([program("startalkctl"), "--state-dir", server.path("state"), "restore", saved], capture_output=True, text=True, timeout=60)
    ok(done)
    server.start()
