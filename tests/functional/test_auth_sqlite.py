# SPDX-License-Identifier: MIT
"""The users table, as an operator edits it, and logging in against it."""
import os
import re
import stat
import subprocess
import time

import pytest
from stk import wire
from stk.server import BUILD


def secured(server, connect, user="alice", **kwargs):
    client = connect(server, user, **kwargs)
    client.welcome()
    client.starttls()
    return client


def logs_in(server, connect, user, password):
    return secured(server, connect, user).auth(password).signal == wire.SUCCESS


def wait_for(what, seconds=5):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


def test_rows_put_in_while_the_server_runs_hold_from_the_next_login(server, connect):
    assert not logs_in(server, connect, "carol", "s3cret")
    server.sql("INSERT INTO users (username, password) VALUES ('carol', 's3cret')")
    assert logs_in(server, connect, "carol", "s3cret")
    server.sql("UPDATE users SET password = 'other' WHERE username = 'carol'")
    assert not logs_in(server, connect, "carol", "s3cret")
    assert logs_in(server, connect, "carol", "other")
    server.sql("DELETE FROM users WHERE username = 'carol'")
    assert not logs_in(server, connect, "carol", "other")


@pytest.mark.parametrize("change", ["UPDATE users SET enabled = 0 WHERE username = 'alice'", "DELETE FROM users WHERE username = 'alice'",
                                    "UPDATE users SET password = 'new' WHERE username = 'alice'",
                                    "UPDATE users SET username = 'alicia' WHERE username = 'alice'"])
def test_a_change_of_the_account_ends_its_sessions_within_two_seconds(server, connect, change):
    sessions = [connect(server).login(resource=f"V_P[PC{i}]_x") for i in range(2)]
    bob = connect(server, "bob").login()
    server.sql(change)
    started = time.monotonic()
    for client in sessions:
        client.expect_end(201)
    assert time.monotonic() - started < 2
    assert bob.ping().inner.value == "ping"


def test_a_session_that_logged_in_before_the_change_but_binds_after_it_ends_too(server, connect):
    client = secured(server, connect)
    assert client.auth(server.passwords["alice"]).signal == wire.SUCCESS
    server.sql("UPDATE users SET enabled = 0 WHERE username = 'alice'")
    server.wait_log("users: alice@example.org: disabled")
    client.send(wire.IQ, wire.pb.IQMessage(key="BIND", messageId="b", value="R"))
    client.expect_end(201)


def test_the_servers_own_rehash_ends_no_session(server, connect):
    server.sql("INSERT INTO users (username, password) VALUES ('carol', 's3cret')")
    client = connect(server, "carol")
    client.login("s3cret")
    wait_for(lambda: server.sql("SELECT password FROM users WHERE username = 'carol'").startswith("SCRAM-SHA-256$"))
    time.sleep(0.6)
    assert client.ping().inner.value == "ping"


def test_plain_passwords_leave_the_files_without_a_login(server):
    secret = "a-very-plain-password-0123456789"
    server.sql("INSERT INTO users (username, password) VALUES ('carol', ?)", secret)

    def traces():
        found = []
        for name in os.listdir(server.path("state")):
            if not os.path.isfile(server.path("state", name)):
                continue
            with open(server.path("state", name), "rb") as file:
                if secret.encode() in file.read():
                    found.append(name)
        return found
    wait_for(lambda: server.sql("SELECT password FROM users WHERE username = 'carol'").startswith("SCRAM-SHA-256$"))
    wait_for(lambda: not traces())


def test_plain_passwords_put_in_while_the_server_is_down_are_replaced_at_its_start(server, connect):
    server.stop()
    server.sql("INSERT INTO users (username, password) VALUES ('carol', 's3cret')")
    server.start()
    wait_for(lambda: server.sql("SELECT password FROM users WHERE username = 'carol'").startswith("SCRAM-SHA-256$"))
    assert logs_in(server, connect, "carol", "s3cret")


def test_crypt_cry_and_scram_passwords_log_in_and_stay_as_they_are(server, connect):
    yescrypt = subprocess.run(["mkpasswd", "-m", "yescrypt", "s3cret"], capture_output=True, text=True, check=True).stdout.strip()
    sha512 = subprocess.run(["openssl", "passwd", "-6", "s3cret"], capture_output=True, text=True, check=True).stdout.strip()
    scram = server.sql("SELECT password FROM users WHERE username = 'alice'")
    wait_for(lambda: server.sql("SELECT password FROM users WHERE username = 'alice'").startswith("SCRAM"))
    scram = server.sql("SELECT password FROM users WHERE username = 'alice'")
    for user, stored, password in (("yes", yescrypt, "s3cret"), ("sha", sha512, "s3cret"), ("scram", scram, server.passwords["alice"])):
        server.sql("INSERT INTO users (username, password) VALUES (?, ?)", user, stored)
        assert logs_in(server, connect, user, password)
        assert not logs_in(server, connect, user, "wrong")
        assert not logs_in(server, connect, user, stored)
        assert server.sql("SELECT password FROM users WHERE username = ?", user) == stored
    server.sql("INSERT INTO users (username, password, pwd_salt) VALUES ('cry', 'CRY:fd540f073cc09aa98220bbb234153bd5', "
               "'qtalkadmin_pwd_salt_d2bf42081aab47f4ac00697d7dd32993')")
    assert logs_in(server, connect, "cry", "testpassword")
    assert not logs_in(server, connect, "cry", "fd540f073cc09aa98220bbb234153bd5")


def test_what_only_looks_like_a_hash_is_a_plain_password(server, connect):
    for i, password in enumerate(("$6$", "CRY:short", "SCRAM-SHA-256$x", "$money$")):
        server.sql("INSERT INTO users (username, password) VALUES (?, ?)", f"u{i}", password)
        assert logs_in(server, connect, f"u{i}", password)


def test_nobody_logs_in_without_a_password(server, connect):
    server.sql("INSERT INTO users (username, password) VALUES ('empty', ''), ('none', NULL)")
    for user in ("empty", "none"):
        for password in ("", "NULL", "x"):
            assert not logs_in(server, connect, user, password)


def test_names_of_any_script_are_folded(server, connect):
    server.sql("INSERT INTO users (username, password) VALUES ('ÄRGER', 'pw'), ('鲍勃', 'pw')")
    for name in ("ärger", "Ärger", "ÄRGER"):
        client = secured(server, connect, name)
        reply = client.auth("pw")
        assert reply.signal == wire.SUCCESS and reply.sender == "ÄRGER@example.org"
    assert logs_in(server, connect, "鲍勃", "pw")


def test_of_two_rows_that_fold_to_one_name_the_older_holds(server, connect):
    server.sql("INSERT INTO users (username, password) VALUES ('ärger', 'old')")
    wait_for(lambda: server.sql("SELECT count(*) FROM users_changed") == "0")
    server.sql("INSERT INTO users (username, password) VALUES ('ÄRGER', 'young')")
    server.wait_log("users: ÄRGER: another row has the same name after case folding")
    assert logs_in(server, connect, "ärger", "old")
    assert not logs_in(server, connect, "ärger", "young")


def test_rsa_credentials_log_in_inside_and_outside_tls(server, connect):
    for tls in (False, True):
        client = connect(server)
        client.welcome()
        if tls:
            client.starttls()
        assert client.auth(client.rsa("wrong")).signal == wire.FAILURE
        assert client.auth(client.rsa(server.passwords["alice"], user="bob")).signal == wire.FAILURE
        assert client.auth(client.rsa(server.passwords["alice"])).signal == wire.SUCCESS


def test_the_key_pair_is_made_once_with_safe_modes(server):
    key, public = server.path("state", "login-rsa.key"), server.path("state", "login-rsa.pub")
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    server.wait_log("RSA key pair made")
    derived = subprocess.run(["openssl", "pkey", "-in", key, "-pubout"], capture_output=True, text=True, check=True).stdout
    with open(public, encoding="utf-8") as file:
        text = file.read()
    assert derived.split() == text.split()
    assert "2048 bit" in subprocess.run(["openssl", "pkey", "-in", key, "-noout", "-text"], capture_output=True, text=True).stdout
    server.stop()
    server.start()
    with open(public, encoding="utf-8") as file:
        assert file.read() == text


@pytest.mark.parametrize("bits, works", [(1024, True), (512, False)])
def test_an_existing_key_of_1024_bits_is_used_and_a_shorter_one_refused(make_server, connect, bits, works):
    server = make_server(start=False, plugins={"10-auth_sqlite": "[auth_sqlite]\nrsa-key = ../own.key"})
    subprocess.run(["openssl", "genrsa", "-out", server.path("own.key"), str(bits)], check=True, capture_output=True)
    if not works:
        done = server.run()
        assert done.returncode == 1 and "own.key" in done.stderr and "1024 bits" in done.stderr
        return
    subprocess.run(["openssl", "pkey", "-in", server.path("own.key"), "-pubout", "-out", server.path("own.pub")], check=True)
    server.start()
    assert not os.path.exists(server.path("state", "login-rsa.key"))
    client = connect(server)
    client.welcome()
    assert client.auth(client.rsa(server.passwords["alice"], key=server.path("own.pub"))).signal == wire.SUCCESS


def test_plain_outside_tls_can_be_allowed(make_server, connect):
    server = make_server(plugins={"10-auth_sqlite": "[auth_sqlite]\nplain-without-tls = on"})
    client = connect(server)
    client.welcome()
    assert client.auth(server.passwords["alice"]).signal == wire.SUCCESS


def test_every_failure_is_answered_alike_and_at_the_same_instant(make_server, connect):
    server = make_server(fast=False)
    server.sql("INSERT INTO users (username, password, enabled) VALUES ('off', 'pw', 0)")
    seen = set()
    for user, credential in (("alice", "wrong"), ("nobody", "x"), ("off", "pw"), ("alice", "A" * 344), ("alice", None)):
        client = secured(server, connect, user)
        credential = client.rsa("wrong", user=user) if credential is None else credential
        delays = []
        for _ in range(2):
            started = time.monotonic()
            reply = client.auth(credential)
            delays.append(time.monotonic() - started)
            seen.add((reply.signal, reply.sender, reply.to, reply.inner.SerializeToString()))
        assert 0.48 < delays[0] < 0.75 and 0.98 < delays[1] < 1.3, delays
    assert len(seen) == 1
    assert next(iter(seen))[0] == wire.FAILURE


def test_the_delay_doubles_up_to_its_bound_within_a_connection(make_server, connect):
    server = make_server(login="failure-delay = 50ms\nfailure-delay-max = 200ms")
    client = secured(server, connect)
    delays = []
    for _ in range(5):
        started = time.monotonic()
        client.auth("wrong")
        delays.append(time.monotonic() - started)
    for delay, wanted in zip(delays, (0.05, 0.1, 0.2, 0.2, 0.2)):
        assert wanted - 0.01 < delay < wanted + 0.15, delays


def test_each_refused_login_leaves_one_line_that_says_why_and_no_credential(server, connect):
    server.sql("INSERT INTO users (username, password, enabled) VALUES ('off', 'pw', 0)")
    for user, why in (("alice", "wrong password"), ("nobody", "unknown user"), ("off", "the user is disabled")):
        secured(server, connect, user).auth("Tr0ub4dor&3")
        pattern = rf"login: {user}@example\.org: refused: {why} \(127\.0\.0\.1:\d+\)"
        server.wait_log(pattern)
        assert sum(bool(re.search(pattern, line)) for line in server.lines) == 1
    assert not any("Tr0ub4dor" in line for line in server.lines)


def test_past_the_limit_a_user_is_refused_even_with_the_right_password(make_server, connect):
    server = make_server(login="user-tries = 5\nfailure-delay = 0")
    for i in range(5):
        assert not logs_in(server, connect, "alice", f"wrong {i}")
    assert not logs_in(server, connect, "alice", server.passwords["alice"])
    server.wait_log("login: alice@example.org: refused: too many failed tries lately")
    assert logs_in(server, connect, "bob", server.passwords["bob"])


def test_past_the_limit_an_address_is_refused_unless_it_logged_in_before(make_server, connect):
    server = make_server(login="address-tries = 4\nfailure-delay = 0")

    def tries(source, users):
        return [secured(server, connect, user, source=source).auth("wrong").signal for user in users]
    assert secured(server, connect, "bob", source="127.0.0.7").auth(server.passwords["bob"]).signal == wire.SUCCESS
    for source in ("127.0.0.7", "127.0.0.8"):
        tries(source, [f"guess{i}" for i in range(4)])
    assert secured(server, connect, "alice", source="127.0.0.7").auth(server.passwords["alice"]).signal == wire.SUCCESS
    assert secured(server, connect, "alice", source="127.0.0.8").auth(server.passwords["alice"]).signal == wire.FAILURE
    assert secured(server, connect, "alice", source="127.0.0.9").auth(server.passwords["alice"]).signal == wire.SUCCESS


def test_a_user_is_let_in_from_a_known_address_while_others_guess(make_server, connect):
    server = make_server(login="user-tries = 4\nfailure-delay = 0")

    def alice(source, password):
        return secured(server, connect, source=source).auth(password).signal
    assert alice("127.0.0.7", server.passwords["alice"]) == wire.SUCCESS
    for i in range(6):
        assert alice("127.0.0.8", f"guess {i}") == wire.FAILURE
    assert alice("127.0.0.9", server.passwords["alice"]) == wire.FAILURE
    assert alice("127.0.0.7", server.passwords["alice"]) == wire.SUCCESS


def test_a_client_that_leaves_while_its_password_is_checked_harms_nobody(make_server, connect):
    server = make_server(plugins={"10-auth_sqlite": "[auth_sqlite]\niterations = 200000"}, login="user-tries = 0")
    wait_for(lambda: "SCRAM-SHA-256$200000:" in server.sql("SELECT password FROM users WHERE username = 'alice'"))
    for _ in range(5):
        client = connect(server)
        client.welcome()
        client.send_auth("wrong")
        client.close()
    assert logs_in(server, connect, "alice", server.passwords["alice"])


def test_the_shipped_extension_makes_verifiers_for_the_command_line(server, connect):
    library = os.path.join(BUILD, "modules", "auth_sqlite", "startalk_password")
    done = subprocess.run(["sqlite3", "-cmd", ".timeout 5000", "-cmd", f".load {library}", server.path("state", "startalk.db"),
                           "INSERT INTO users (username, password) VALUES ('carol', startalk_password('s3cret')); "
                           "SELECT startalk_password(NULL) IS NULL, startalk_password('x') <> startalk_password('x')"],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1|1"
    assert server.sql("SELECT password FROM users WHERE username = 'carol'").startswith("SCRAM-SHA-256$4096:")
    assert logs_in(server, connect, "carol", "s3cret")


def test_a_damaged_database_is_named_and_refused(make_server):
    server = make_server(start=False)
    os.makedirs(server.path("state"))
    with open(server.path("state", "startalk.db"), "wb") as file:
        file.write(b"this is no database " * 1000)
    done = server.run()
    assert done.returncode == 1 and "startalk.db" in done.stderr and "not a database" in done.stderr


def test_a_login_after_a_change_of_the_password_stays(server, connect):
    before = connect(server).login()
    server.sql("UPDATE users SET password = 'n3w' WHERE username = 'alice'")
    before.expect_end(201)
    after = connect(server).login("n3w")
    after.ping()
