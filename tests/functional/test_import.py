# SPDX-License-Identifier: MIT
"""startalkctl user import: accounts of a CSV file or of an existing deployment's table."""
import csv
import hashlib
import json

import pytest


def ok(done):
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def refused(done, *texts):
    assert done.returncode == 1 and done.stdout == "", done
    for text in texts:
        assert text in done.stderr, done


def cry(password, salt):
    def md5(text):
        return hashlib.md5(text.encode()).hexdigest()
    return "CRY:" + md5(md5(md5(password) + salt))


def users(server):
    return {json.loads(line)["user"]: json.loads(line) for line in ok(server.ctl("--json", "user", "list")).splitlines()}


@pytest.fixture
def load(server, tmp_path):
    """load(text, *options): the import of a file with that text; tables of lists are made CSV."""
    def make(text, *options):
        path = tmp_path / "users"
        with open(path, "w", encoding="utf-8", newline="") as file:
            if isinstance(text, str):
                file.write(text)
            else:
                csv.writer(file).writerows(text)
        return server.ctl("user", "import", str(path), *options)
    return make


def can_log_in(connect, server, user, password):
    client = connect(server, user)
    client.welcome()
    client.starttls()
    return client.auth(client.rsa(password)).signal == 4


def test_an_imported_user_with_a_hash_of_the_old_deployment_logs_in(server, load, connect):
    out = ok(load([["username", "password", "pwd_salt"], ["carol", cry("s3cret", "pepper"), "pepper"]]))
    assert out == "1 accounts added, 0 updated, 0 unchanged\n"
    connect(server, "carol").login("s3cret")
    assert not can_log_in(connect, server, "carol", "other")


def dump(rows, columns=("id", "host_id", "user_id", "user_name", "department", "frozen_flag", "hire_flag", "password", "pwd_salt")):
    return ("--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\n"
            "CREATE TABLE public.host_users (\n    id bigint NOT NULL,\n    user_id text NOT NULL\n);\n\n"
            "COPY public.host_users_pay (id, user_id) FROM stdin;\n1\tnobody\n\\.\n\n"
            f"COPY public.host_users ({', '.join(columns)}) FROM stdin;\n" + "".join("\t".join(row) + "\n" for row in rows) +
            "\\.\n\nSELECT pg_catalog.setval('public.host_users_id_seq', 9, true);\n")


def test_the_table_dump_of_a_deployment_is_read_with_its_flags(server, load, connect):
    rows = [["1", "1", "carol", "Carol", "/a\\tb", "0", "1", cry("pw c", "s c"), "s c"],
            ["2", "1", "dave", "Dave", "/a", "1", "1", cry("pw d", "s d"), "s d"],
            ["3", "1", "erin", "Erin", "/a", "0", "0", cry("pw e", "s e"), "s e"],
            ["4", "1", "frank", "Frank", "/a", "0", "1", "back\\\\slash", "\\N"],
            ["5", "1", "grace", "Grace", "/a", "0", "2", "\\N", "\\N"]]
    ok(load(dump(rows)))
    there = users(server)
    assert {name: (there[f"{name}@example.org"]["enabled"], there[f"{name}@example.org"]["password"]) for name in
            ("carol", "dave", "erin", "frank", "grace")} == {
        "carol": (True, "CRY"), "dave": (False, "CRY"), "erin": (False, "CRY"), "frank": (True, "SCRAM-SHA-256"), "grace": (True, "none")}
    assert "nobody@example.org" not in there
    assert can_log_in(connect, server, "carol", "pw c") and can_log_in(connect, server, "frank", "back\\slash")
    assert not can_log_in(connect, server, "dave", "pw d")


def test_the_same_table_as_csv_is_read_too(server, load):
    done = load([["user_id", "user_name", "frozen_flag", "hire_flag", "password", "pwd_salt"],
                 ["carol", 'Carol, "the" one\nof two lines', "f", "t", cry("x", "y"), "y"], ["dave", "Dave", "t", "t", "", ""]])
    assert done.returncode == 0 and "column user_name is not known" in done.stderr
    there = users(server)
    assert there["carol@example.org"]["enabled"] and not there["dave@example.org"]["enabled"]


def test_plain_passwords_never_stand_in_a_file(server, load, connect):
    ok(load("username,password\r\ncarol,\"plain, \"\"quoted\"\"\"\r\nÄrger,ümläut\r\n"))
    connect(server, "carol").login('plain, "quoted"')
    connect(server, "ärger").login("ümläut")
    server.stop()
    for name in ("startalk.db", "startalk.db-wal"):
        try:
            assert b"quoted" not in open(server.path("state", name), "rb").read()
        except FileNotFoundError:
            pass
    assert not [line for line in server.lines if "quoted" in line or "ümläut" in line]


def test_faults_are_told_by_line_and_nothing_is_written(server, load):
    before = set(users(server))
    done = load("username,password,enabled,pwd_salt\n"
                "carol,x,1,\n"
                "a b,x,1,\n"
                ",x,1,\n"
                "\"dave\",\"two\nlines\",maybe,\n"
                "CAROL,x,1,\n"
                "erin,CRY:0123,1,s\n"
                f"frank,{cry('x', '')},1,\n"
                "alice,x,1,\n"
                "grace@elsewhere.org,x,1,\n")
    refused(done, "line 3: a name has no", "line 4: no username", "line 5: 'maybe' is neither yes nor no", "line 7: the user is in line 2 already",
            "line 8: the password looks like a CRY: hash", "line 9: a CRY: password without its salt", "line 10: there is such a user already",
            "line 11: this server does not serve that domain", "nothing was written")
    assert "line 2:" not in done.stderr
    assert set(users(server)) == before


@pytest.mark.parametrize("text, says", [
    ("", "empty"), ("password\nx\n", "no column username"), ("username,password\ncarol\n", "line 2: 1 fields, and 2 columns"),
    ("username\n\"carol\n", "line 2: a quote is not closed"), ("username\n\"carol\"x\n", "line 2: a quote has something behind it"),
    ("username,user\na,b\n", "two columns mean the same"), ("-- dump\nSELECT 1;\n", "without COPY"),
    ("COPY host_users (user_id) FROM stdin;\ncarol\n", "in the middle of the table"), ("username\nca\0rol\n", "no text"),
])
def test_what_is_no_table_is_refused(load, text, says):
    refused(load(text), says)


def test_a_file_that_is_not_there_is_told(server, tmp_path):
    refused(server.ctl("user", "import", str(tmp_path / "no")), "No such file")
    assert server.ctl("user", "import").returncode == 2


def test_a_dry_run_writes_nothing(server, load):
    before = set(users(server))
    assert ok(load("username\ncarol\ndave\n", "--dry-run")) == "2 accounts would be added, 0 would be updated, 0 unchanged\n"
    assert set(users(server)) == before


def test_update_changes_those_that_are_there_and_leaves_what_is_not_said(server, load, connect):
    kept = connect(server).login()
    bob = connect(server, "bob").login()
    salted = cry("n3w", "s")
    table = [["username", "password", "pwd_salt", "enabled"], ["alice", "", "", ""], ["BOB", salted, "s", ""], ["carol", salted, "s", "no"]]
    assert ok(load(table, "--update")) == "1 accounts added, 1 updated, 1 unchanged\n"
    bob.expect_end(201)
    kept.ping()
    connect(server, "bob").login("n3w")
    assert not users(server)["carol@example.org"]["enabled"] and users(server)["bob@example.org"]["enabled"]
    assert ok(load(table, "--update")) == "0 accounts added, 0 updated, 3 unchanged\n"
    ok(load([["username", "enabled"], ["alice", "0"]], "--update"))
    kept.expect_end(201)


def test_thousands_are_imported_in_portions(server, load, connect):
    table = [["username", "password", "pwd_salt"], *([f"user{i}", cry(f"pw {i}", "s" * 200), "s" * 200] for i in range(3000))]
    assert ok(load(table)) == "3000 accounts added, 0 updated, 0 unchanged\n"
    connect(server, "user2999").login("pw 2999")
    refused(load([*table, ["fresh", "", ""]]), "there is such a user already", "... and 2900 more", "3000 faults")
    assert "fresh@example.org" not in users(server)


def test_domains_come_from_the_table_or_the_option(make_server, tmp_path, connect):
    server = make_server(domain="example.org, example.net")
    path = tmp_path / "users.csv"
    path.write_text("username,domain\ncarol,example.net\ndave,\n")
    ok(server.ctl("user", "import", str(path), "--domain", "example.org"))
    assert {"carol@example.net", "dave@example.org"} <= set(users(server))
    line = json.loads(ok(server.ctl("--json", "user", "import", str(path), "--update")))
    assert line == {"added": 0, "updated": 0, "unchanged": 2, "dry-run": False}
