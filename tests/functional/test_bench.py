# SPDX-License-Identifier: MIT
"""startalk-bench against a real server, and against a connection that loses, doubles or changes what passes through it."""
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import xml.etree.ElementTree

import pytest

from stk import wire
from stk.server import BAD, BUILD, program

BENCH = program("tests/bench/startalk-bench")
USERS = 12
SHORT = ("--seconds", "0.5", "--warmup", "0.2")


class Run:
    """One run, to its end."""

    def __init__(self, *args, command=(BENCH,)):
        done = subprocess.run([*command, *(str(arg) for arg in args)], capture_output=True, text=True, timeout=60, check=False)
        self.out, self.err, self.status = done.stdout, done.stderr, done.returncode
        assert not BAD.search(self.err), self.err

    @property
    def result(self):
        return json.loads(self.out)

    def fine(self):
        assert self.status == 0, self.out + self.err
        assert self.result["faults"] == [] and self.result["fault_count"] == 0
        return self.result

    def faulty(self):
        assert self.status == 1, self.out + self.err
        return " | ".join(self.result["faults"])


@pytest.fixture
def bench(make_server):
    """bench(mode, ...) runs it against a server with USERS users."""
    users = {f"u{number:05}": "bench" for number in range(USERS)}
    server = make_server(users=users, plugins={"10-auth_sqlite": "[auth_sqlite]\nplain-without-tls = on\n"})

    def run(mode, *args, port=None, length=SHORT):
        return Run(mode, "--port", port or server.port, "--users", USERS, "--server-pid", server.process.pid, *length, *args)

    run.server = server
    return run


def test_many_users_of_one_address_log_in_at_once_and_none_is_taken_for_a_guesser(make_server):
    names = [f"u{number:05}" for number in range(100)]
    slow = "[auth_sqlite]\nplain-without-tls = on\niterations = 200000\n"
    server = make_server(users={name: "bench" for name in names}, plugins={"10-auth_sqlite": slow}, login="address-tries = 20\n")
    result = Run("idle", "--port", server.port, "--users", len(names), "--sessions", len(names), "--concurrency", len(names),
                 "--sources", 1, *SHORT).fine()
    assert result["sessions"] == len(names)


def check_frame(result, tls="off"):
    assert result["tls"] == tls and 0.4 < result["seconds"] < 30
    assert result["server"]["rss_kib"] > 1000 and 0 <= result["server"]["cpu_share"]
    assert 0 <= result["generator"]["cpu_share"] < 2 and result["generator"]["is_limit"] in (True, False)


def check_latency(latency, count):
    assert latency["count"] >= count
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"] and latency["mean"] <= latency["max"]


def check_whole(result, receipts=True, devices=1):
    whole = result["whole_run"]
    assert whole["delivered"] == whole["sent"] * devices > 0
    assert whole["receipts"] == (whole["sent"] if receipts else 0)
    assert not any(whole[name] for name in ("lost", "lost_receipts", "reordered", "altered", "refused"))
    assert 0 < result["messages"] <= whole["delivered"]
    assert result["messages_per_s"] == pytest.approx(result["messages"] / result["seconds"], rel=0.01)


@pytest.mark.parametrize("tls", ["off", "starttls"])
def test_login_counts_whole_logins(bench, tls):
    result = bench("login", "--concurrency", 4, "--tls", tls).fine()
    check_frame(result, tls)
    assert result["logins"] > 0 and result["failed"] == 0 and result["credential"] == "plain"
    assert result["logins_per_s"] == pytest.approx(result["logins"] / result["seconds"], rel=0.01)
    check_latency(result["latency_us"], 1)


def test_login_with_an_rsa_credential_needs_no_plain_password(make_server):
    server = make_server(users={"u00000": "bench", "u00001": "bench"})
    args = ("login", "--port", server.port, "--users", 2, "--concurrency", 1, *SHORT)
    result = Run(*args, "--rsa-key", server.path("state", "login-rsa.pub")).fine()
    assert result["credential"] == "rsa" and result["logins"] > 0
    assert "login refused: not-authorized" in Run(*args).faulty()


def test_login_over_direct_tls(make_server):
    server = make_server(users={"u00000": "bench"}, listen="tls = direct")
    result = Run("login", "--port", server.port, "--users", 1, "--concurrency", 1, "--tls", "direct", *SHORT).fine()
    assert result["tls"] == "direct" and result["logins"] > 0 and "server" not in result


def test_idle_holds_its_sessions_and_pings(bench):
    result = bench("idle", "--sessions", USERS, "--settle", 0.1, "--ping-every", 0.2).fine()
    check_frame(result)
    assert result["held"] == result["sessions"] == USERS and result["pings"] >= USERS
    assert 0 < result["rss_kib"]["before"] <= result["rss_kib"]["full"]


def test_ping_in_a_closed_and_in_an_open_loop(bench):
    result = bench("ping", "--sessions", 5, "--window", 3).fine()
    check_frame(result)
    check_whole(result, receipts=False)
    assert result["loop"] == "closed" and result["kind"] == "ping"
    check_latency(result["latency_us"]["delivery"], 15)
    result = bench("ping", "--sessions", 5, "--rate", 100).fine()
    assert result["loop"] == "open" and 40 <= result["messages"] <= 60


@pytest.mark.parametrize("args", [(), ("--tls", "starttls"), ("--coalesce",), ("--body", 2000), ("--body", 20, "--wrap", "none"),
                                  ("--body", 1, "--wrap", "tea"), ("--wrap", "gzip")], ids=str)
def test_chat_counts_deliveries_and_receipts(bench, args):
    result = bench("chat", "--pairs", 3, "--window", 4, *args).fine()
    check_frame(result, "starttls" if "--tls" in args else "off")
    check_whole(result)
    check_latency(result["latency_us"]["delivery"], 10)
    check_latency(result["latency_us"]["receipt"], 10)


def test_chat_in_an_open_loop_keeps_to_its_rate(bench):
    result = bench("chat", "--pairs", 3, "--rate", 100).fine()
    check_whole(result)
    assert 40 <= result["messages"] <= 60 and result["loop"] == "open" and result["rate_kept"] in (True, False)


def test_chat_ends_after_so_many_messages(bench):
    result = bench("chat", "--pairs", 2, "--messages", 50, length=("--seconds", 30, "--warmup", 0)).fine()
    assert result["whole_run"]["sent"] == result["messages"] == 50 and result["seconds"] < 25


def test_a_record_has_each_receipt_delivery_and_mark_and_when_they_came(bench, tmp_path):
    whole = bench("chat", "--pairs", 2, "--rate", 60, "--marks", "--record", tmp_path / "record").fine()["whole_run"]
    first, *lines = [line.split() for line in (tmp_path / "record").read_text().splitlines()]
    assert first[:2] == ["begin", "-"] and int(first[2]) > 0
    ids = {kind: [id_ for name, id_, _, _ in lines if name == kind] for kind in ("receipt", "delivery", "mark")}
    assert len(ids["receipt"]) == whole["receipts"] and len(ids["delivery"]) == whole["delivered"] and len(ids["mark"]) == whole["marks"]
    assert set(ids["receipt"]) == set(ids["delivery"]) == set(ids["mark"])
    assert all(int(first[2]) <= int(sent) <= int(arrived) for _, _, sent, arrived in lines)
    with contextlib.closing(sqlite3.connect(bench.server.path("state", "archive.db"))) as archive:
        assert set(ids["receipt"]) == {id_ for id_, in archive.execute("SELECT id FROM messages")}


def test_a_record_that_cannot_be_kept_is_told(bench, tmp_path):
    run = bench("chat", "--pairs", 1, "--record", tmp_path / "missing" / "record")
    assert run.status == 2 and "--record: " in run.err and "No such file or directory" in run.err


def test_receivers_may_send_delivered_marks_as_desktop_clients_do(bench):
    whole = bench("chat", "--pairs", 2, "--window", 4, "--marks").fine()["whole_run"]
    assert whole["marks"] == whole["delivered"] > 0 and whole["lost_marks"] == 0
    whole = bench("fanout", "--devices", 3, "--marks", "--rate", 20).fine()["whole_run"]
    assert whole["marks"] == whole["delivered"] > 0


def test_what_a_run_left_does_not_disturb_the_next(bench):
    bench("chat", "--pairs", 1).fine()
    bench.server.stop()
    with contextlib.closing(sqlite3.connect(bench.server.path("state", "archive.db"))) as archive:
        kept, undelivered = archive.execute("SELECT count(*), sum(flag = 0) FROM messages").fetchone()
    assert kept > 0 and undelivered == 0


def test_notices_instead_of_messages_have_no_receipts(bench):
    result = bench("chat", "--pairs", 2, "--kind", "notify", "--body", 300).fine()
    check_whole(result, receipts=False)
    assert "receipt" not in result["latency_us"]


def test_fanout_reaches_each_device(bench):
    result = bench("fanout", "--devices", 5, "--window", 2).fine()
    check_frame(result)
    check_whole(result, devices=5)


def test_mixed_load_is_all_of_it_at_once(bench):
    result = bench("mixed", "--pairs", 2, "--sessions", 4, "--ping-every", 0.2, "--rate", 50, "--login-rate", 10).fine()
    check_frame(result)
    check_whole(result)
    assert result["pings"] > 0 and result["logins_per_s"] > 0 and result["logins_failed"] == 0
    check_latency(result["login_latency_us"], 1)


# ---- what must be noticed ----

class Meddler:
    """Passes bytes on, and hands each chat frame on its way to the client to MEDDLE, which returns what to pass on instead."""

    def __init__(self, port, meddle):
        self.port, self.meddle, self.seen = port, meddle, 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()[1]
        self.sockets = [self.listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                return
            self.sockets += [client, server]
            threading.Thread(target=self._pass, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, b""), daemon=True).start()

    def _pass(self, source, sink, rest):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                if rest is not None:
                    rest += data
                    data, rest = self._frames(rest)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _frames(self, data):
        out = b""
        while data:
            reader = wire.Reader()
            reader.feed(data)
            frame = reader.next()
            if not frame:
                break
            raw, data = data[:len(data) - len(reader.data)], reader.data
            if frame.signal == wire.CHAT:
                with self.lock:
                    self.seen += 1
                    raw = self.meddle(self.seen, raw, frame)
            out += raw
        return out, data

    def close(self):
        for one in self.sockets:
            one.close()


@pytest.fixture
def meddled(bench):
    """meddled(meddle): a run of `chat` whose deliveries go through it."""
    meddlers = []

    def run(meddle, pairs=1):
        meddlers.append(Meddler(bench.server.port, meddle))
        return bench("chat", "--pairs", pairs, "--window", 4, "--rate", 100, "--body", 20, port=meddlers[-1].address)

    yield run
    for meddler in meddlers:
        meddler.close()


def test_a_lost_message_is_a_fault(meddled):
    run = meddled(lambda seen, raw, frame: b"" if seen == 20 else raw)
    assert run.faulty() == "1 messages were not delivered"
    whole = run.result["whole_run"]
    assert whole["lost"] == 1 and whole["delivered"] == whole["sent"] - 1 and whole["receipts"] == whole["sent"]


def test_a_doubled_message_is_a_fault(meddled):
    run = meddled(lambda seen, raw, frame: raw + raw if seen == 20 else raw)
    assert "1 messages or receipts arrived late or twice" in run.faulty()
    assert run.result["whole_run"]["reordered"] == 1


def test_messages_in_another_order_are_a_fault(meddled):
    held = []

    def swap(seen, raw, _):
        if seen == 20:
            held.append(raw)
            return b""
        return raw + held.pop() if held else raw

    run = meddled(swap)
    assert run.faulty() == "1 messages or receipts arrived late or twice"
    assert run.result["whole_run"]["lost"] == 0


def test_a_changed_text_is_a_fault(meddled):
    def change(seen, raw, frame):
        if seen != 20:
            return raw
        frame.inner.body.value = frame.inner.body.value.swapcase()
        frame.proto.message = frame.inner.SerializeToString()
        return wire.wrap(frame.proto.SerializeToString())

    assert meddled(change).faulty() == "1 messages arrived with another text"


def test_a_message_for_somebody_else_is_a_fault(meddled):
    def mix_up(seen, raw, frame):
        if seen < 20:
            return raw
        frame.inner.messageId = frame.inner.messageId[:4] + f"{1 - int(frame.inner.messageId[4:10], 16):06x}" + frame.inner.messageId[10:]
        frame.proto.message = frame.inner.SerializeToString()
        return wire.wrap(frame.proto.SerializeToString())

    assert "a message of flow" in meddled(mix_up, pairs=2).faulty()


def test_a_refused_message_is_a_fault(bench):
    bench.server.stop()
    bench.server.plugin("35-archive", None)
    bench.server.plugin("36-message", None)
    bench.server.start()
    run = bench("chat", "--pairs", 1, "--rate", 20, "--messages", 5)
    assert "messages were refused" in run.faulty()
    whole = run.result["whole_run"]
    assert whole["refused"] == whole["sent"] >= 5 and whole["lost"] == whole["lost_receipts"] == 0 and run.result["messages"] == 0


def test_a_server_that_goes_away_is_a_fault(bench):
    seen = threading.Event()

    def stop(count, raw, _):
        if count == 20:
            seen.set()
        return raw

    meddler = Meddler(bench.server.port, stop)
    thread = threading.Thread(target=lambda: seen.wait(30) and bench.server.process.kill())
    thread.start()
    run = bench("chat", "--pairs", 1, "--rate", 100, port=meddler.address)
    thread.join()
    meddler.close()
    bench.server.process.wait(10)
    bench.server.process = None
    assert "u0000" in run.faulty()


def test_a_server_that_never_answers_ends_at_the_limit():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        run = Run("chat", "--port", listener.getsockname()[1], "--limit", 1, "--pairs", 1, *SHORT)
    assert "stopped after the --limit of 1 s" in run.faulty()


@pytest.mark.parametrize("args, message", [
    (("chat", "--address", "192.0.2.1"), "no address in 127.0.0.0/8"),
    (("chat", "--port", 1), "is a server running there?"),
    (("chat", "--pairs", 5, "--users", 9), "need 10 users, and there are 9"),
    (("chat", "--body", 0), "--body: '0' is no whole number"),
    (("chat", "--seconds", "x"), "--seconds: 'x' is no number"),
    (("chat", "--tls", "maybe"), "--tls: 'maybe' is none of"),
    (("chat", "--limit", 3, "--seconds", 4), "less than --warmup and --seconds"),
    (("chat", "--server-pid", 99999999), "no process 99999999"),
    (("chat", "--cpu", 4000), "no processor"),
    (("login", "--rsa-key", "/nonexistent"), "No such file"),
    (("nonsense",), "'nonsense' is no mode"),
    ((), "one mode is needed"),
], ids=str)
def test_what_cannot_be_done_is_told(args, message):
    run = Run(*args)
    assert run.status == 2 and message in run.err and run.out == ""


def script(name):
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench", name)


def test_the_driver_runs_a_server_of_its_own():
    drive = [sys.executable, script("run"), "--build", BUILD, "--users", "4", "--server-cpu", "-1", "--bench-cpu", "-1"]
    result = Run("chat", "--pairs", 2, *SHORT, command=drive).fine()
    check_frame(result)
    check_whole(result)
    result = Run("--rsa", "login", "--concurrency", 2, *SHORT, command=drive).fine()
    assert result["credential"] == "rsa" and result["logins"] > 0
    start = Run("--runs", 1, "start", command=drive).result
    assert start["ready_ms"] > 0 and start["rss_kib"] > 1000


def test_a_driver_that_cannot_start_leaves_no_folder_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run = Run("--build", "/nonexistent", "login", command=[sys.executable, script("run")])
    assert run.status == 1 and "build first" in run.err
    run = Run("--build", BUILD, "--set", "listen.tls=nonsense", "login", command=[sys.executable, script("run")])
    assert run.status == 1 and "nonsense" in run.err
    assert list(tmp_path.iterdir()) == []


def test_the_comparison_prints_a_table():
    done = Run("--xmppload", "/bin/true", "--only", "startalkd", "--build", BUILD, "--runs", 1, "--seconds", 1, "--settle", 0, "--sessions", 10,
               "--pairs", 2, command=[sys.executable, script("compare")])
    assert done.status == 0, done.err
    rows = dict(line.strip("| ").split(" | ", 1) for line in done.out.splitlines())
    assert rows.pop("median (least–most)") == "startalkd"
    for name in ("logins/s", "CPU us/login", "messages/s", "CPU us/message", "pings/s", "CPU us/ping"):
        assert float(rows[name]) > 0, done.out


# ---- bare loops, goals and plots ----

BARE = program("tests/bench/startalk-bare")


@contextlib.contextmanager
def bare_server(mode, *args):
    """Its port."""
    with subprocess.Popen([BARE, mode, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())["port"]
        finally:
            process.stdin.close()
            assert process.wait(10) == 0


def certificate(server):
    return ("--crt", server.path("state", "tls.crt"), "--key", server.path("state", "tls.key"))


@pytest.mark.parametrize("tls", ["off", "direct"])
def test_a_bare_echo_returns_each_message(bench, tls):
    with bare_server("echo", *(certificate(bench.server) if tls == "direct" else ())) as port:
        result = bench("chat", "--bare", "--pairs", 3, "--rate", 200, "--tls", tls, port=port).fine()
        check_whole(result, receipts=False)
        assert "receipt" not in result["latency_us"]
        login = bench("login", "--bare", "--concurrency", 4, "--tls", tls, port=port).fine()
        assert login["logins"] > 0 and login["failed"] == 0


@pytest.mark.parametrize("tls", ["off", "direct"])
def test_a_bare_fan_sends_each_message_to_all(bench, tls):
    with bare_server("fan", *(certificate(bench.server) if tls == "direct" else ())) as port:
        result = bench("fanout", "--bare", "--devices", 5, "--window", 1, "--tls", tls, port=port).fine()
    check_whole(result, receipts=False, devices=5)


def test_a_bare_loop_writes_rows_like_those_of_the_archive(bench, tmp_path):
    bench("chat", "--pairs", 2).fine()
    bench.server.stop()
    folder = tmp_path / "bare"
    folder.mkdir()
    run = Run("sqlite", "--like", bench.server.path("state", "archive.db"), "--dir", folder, "--group", 10, "--seconds", 0.3, command=(BARE,))
    assert run.status == 0, run.err
    assert run.result["count"] >= 10 and run.result["count"] % 10 == 0 and run.result["rows_per_s"] > 0
    assert list(folder.iterdir()) == []


def test_a_bare_loop_derives_keys():
    result = Run("pbkdf2", "--threads", 2, "--iterations", 4096, "--seconds", 0.3, command=(BARE,)).result
    assert result["threads"] == 2 and result["count"] > 0 and result["keys_per_s"] > 0 and result["cpu_us_each"] > 0


@pytest.mark.parametrize("args, message", [
    (("nonsense",), "'nonsense' is no mode"),
    (("sqlite",), "--like is needed"),
    (("sqlite", "--like", "/nonexistent", "--dir", "/nonexistent"), "/nonexistent"),
    (("pbkdf2", "--threads", "0"), "--threads: '0' is no number"),
    (("echo", "--crt", "/nonexistent", "--key", "/nonexistent"), "cannot be used"),
    ((), "one mode is needed"),
], ids=str)
def test_what_a_bare_loop_cannot_do_is_told(args, message):
    run = Run(*args, command=(BARE,))
    assert run.status == 2 and message in run.err and run.out == ""


def test_a_storm_brings_all_back(bench):
    result = bench("storm", "--sessions", 8, "--settle", 0.1).fine()
    check_storm = (result["first"], result["again"])
    assert result["retries"] == 0
    assert result["held"] == result["sessions"] == 8
    assert all(part["seconds"] > 0 and part["logins_per_s"] > 0 and part["server_cpu_us_per_login"] >= 0 for part in check_storm)


def test_bare_is_refused_where_there_would_be_no_answer(bench):
    for args in (("idle", "--bare"), ("chat", "--bare", "--tls", "starttls")):
        run = bench(*args)
        assert run.status == 2 and "--bare" in run.err


GOALS = ("archive", "idle", "logins", "storm", "latency", "fanout", "start", "idle-cost")
TINY = ("--rounds", 1, "--seconds", 0.3, "--warmup", 0.1, "--settle", 0.1, "--pairs", 2, "--window", 2, "--archive-rate", 50, "--rate", 50,
        "--latency-pairs", 2, "--devices", 3, "--login-users", 4, "--login-warmup", 0.3, "--sessions", 20, "--few", 10, "--idle-seconds", 0.3, "--clients", 5,
        "--server-cpu", -1, "--bench-cpu", -1)


def run_goals(tmp_path, *args):
    out = tmp_path / "goals.json"
    run = Run("--build", BUILD, "--folder", tmp_path / "state", "--json", out, *TINY, *args, command=[sys.executable, script("goals")])
    return run, json.loads(out.read_text()) if out.exists() else None


@pytest.mark.parametrize("name", GOALS)
def test_each_goal_is_measured_and_judged(tmp_path, name):
    run, written = run_goals(tmp_path, "--only", name)
    assert run.status in (0, 1), run.err
    assert list(written["goals"]) == [name] and list((tmp_path / "state").iterdir()) == []
    goal = written["goals"][name]
    lines = run.out.splitlines()
    assert len(lines) == 2 + len(goal["rows"]) >= 3 and goal["rounds"] == 1
    for figure, line in zip(goal["rows"], lines[2:]):
        assert line.startswith(f"| {name} | {figure['what']}") and line.count(" | ") == lines[0].count(" | ")
        assert len(figure["measured"]) == 1 and figure["measured"][0] >= 0 and figure["holds"] in (True, False)
        assert f" {'yes' if figure['holds'] else 'no'} |" in line
    assert run.status == (0 if all(figure["holds"] for figure in goal["rows"]) else 1)


def test_a_goal_that_cannot_be_measured_is_no_success(tmp_path):
    run, written = run_goals(tmp_path, "--only", "start", "--set", "listen.tls=nonsense")
    assert run.status == 2 and "nonsense" in run.err and written["goals"] == {}
    run, written = run_goals(tmp_path, "--only", "latency", "--body", 0)
    assert run.status == 2 and "--body" in run.err and written["goals"] == {}


def test_a_goal_that_nobody_knows_is_refused(tmp_path):
    run, written = run_goals(tmp_path, "--only", "start,speed")
    assert run.status == 2 and "speed" in run.err and written is None


def test_the_plots_show_what_was_compared(tmp_path):
    runs = [{"messages/s": 90000, "KiB per idle session": 2.5}, {"messages/s": 110000, "KiB per idle session": 1.5}]
    for name, results in (("clear", {"startalkd": runs, "other & one": runs[:1], "broken": [], "shrunk": [{"messages/s": 5, "KiB per idle session": -3}]}), ("tls", {"startalkd": runs[:1]})):
        (tmp_path / name).write_text(json.dumps(results))
    run = Run("--clear", tmp_path / "clear", "--tls", tmp_path / "tls", "--folder", tmp_path, "--note", "quiet <machine>",
              command=[sys.executable, script("plot")])
    assert run.status == 0, run.err
    for name, median in (("throughput", "100,000"), ("memory", "2.0")):
        svg = xml.etree.ElementTree.parse(tmp_path / f"performance-{name}.svg").getroot()
        texts = [node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")]
        assert {"startalkd", "other & one", "in clear", "TLS", median, "quiet <machine>"} <= set(texts) and "broken" not in texts
        assert "median of 1 to 2 runs, and from the least to the most" in texts and ("shrunk" in texts) == (name == "throughput")
    (tmp_path / "clear").write_text("[]")
    assert Run("--clear", tmp_path / "clear", "--folder", tmp_path, command=[sys.executable, script("plot")]).status == 1
