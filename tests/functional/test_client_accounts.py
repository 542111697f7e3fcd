# SPDX-License-Identifier: MIT
"""startalk-client with several accounts in one run."""
import re
import time

import pytest

from stk.tool import RESOURCE, TOOL, Run, Terminal, tool, write  # noqa: F401


def test_every_account_logs_in_and_acts_when_it_is_told_to(server, tool):
    run = tool(server, *tool.also(server, "bob"), "-c", "/ping; /as bob; /ping; /as alice /notify 7 bob hi; /expect notice 7; /as alice; /ping")
    assert run.status == 0, run.err
    assert re.search(rf"^\d\d:\d\d:\d\d \[alice\] logged in as alice@example\.org/{RESOURCE}$", run.out, re.M)
    assert re.search(rf"^\d\d:\d\d:\d\d \[bob\] logged in as bob@example\.org/{RESOURCE}$", run.out, re.M)
    assert re.search(r"^\S+ \[bob\] commands act for bob@example\.org$", run.out, re.M)
    assert re.search(r"^\S+ \[bob\] message notice \(notice 7\) from alice \(P\[LINUX\]\): hi$", run.out, re.M)
    pings = re.findall(r"\[(\w+)\] ping: answered", run.out)
    assert pings == ["alice", "bob", "alice"]
    assert all("] " in line and line[9] == "[" for line in run.out.splitlines())
    assert all("[alice] warning:" in line or "[bob] warning:" in line for line in run.err.splitlines())


def test_an_expectation_sees_the_lines_of_its_own_account_only(server, tool):
    also = tool.also(server, "bob")
    assert tool(server, *also, "-c", "/notify 7 bob hi; /as bob /expect notice 7 5s").status == 0
    run = tool(server, *also, "-c", "/notify 7 bob hi; /as bob /ping; /expect notice 7 200ms")
    assert run.status == 1 and "[alice] expected, but not seen: notice 7" in run.err and "notice 7" in run.out


def test_the_account_s_name_is_no_part_of_what_is_expected(server, tool):
    run = tool(server, *tool.also(server, "bob"), "-c", "/ping; /expect [alice] ping 200ms")
    assert run.status == 1 and "[alice] ping: answered" in run.out


def test_all_accounts_are_served_while_one_waits(server, tool, connect):
    script = tool.script(server, *tool.also(server, "bob"))
    for _ in ("alice", "bob"):  # in any order
        script.read_until("online devices: ")
    script.send("/wait 60")
    sender = connect(server).login(resource="x")
    for number, user in enumerate(("alice", "bob", "alice")):
        sender.notify(7, f"number {number}", f"{user}@example.org")
        assert f"[{user}] message notice" in script.read_until(f"number {number}")


def test_raw_lines_carry_the_name_too(server, tool):
    run = tool(server, "--raw", *tool.also(server, "bob"), "-c", "/as bob /iq get urn:xmpp:ping ping; /as bob /expect <iq")
    assert run.status == 0
    assert re.search(r"^\[bob\] >> <iq type='get' id='[0-9a-f]{32}'><ping xmlns='urn:xmpp:ping'/></iq>$", run.out, re.M)
    assert re.search(r"^\[bob\] << <iq [^>]*type='result'", run.out, re.M)


def test_two_devices_of_one_user_are_told_apart_by_name(server, tool):
    run = tool(server, *tool.also(server, "alice", "--resource", "V[1]_P[iOS]_ID[x]_C[1]_PB", name="phone"), "-c",
               "/expect P[iOS]; /as phone /show away; /expect (P[iOS]) is away")
    assert run.status == 0, run.err
    assert "[phone] logged in as alice@example.org/V[1]_P[iOS]_ID[x]_C[1]_PB\n" in run.out


@pytest.mark.parametrize("order", ["{jid} {main} {as_bob} {bob}", "{main} {jid} {as_bob} {bob}", "{main} {as_bob} {bob} {jid}",
                                   "{as_bob} {bob} {jid} {main}", "{main} {as_bob} {bob} -- {jid}"])
def test_options_belong_to_the_jid_in_front_of_them(server, tmp_path, order):
    files = {user: write(tmp_path / f"{user}.pw", server.passwords[user]) for user in ("alice", "bob")}
    words = order.format(jid="alice@example.org", as_bob="--as bob@example.org", main=f"--resource mine --password-file {files['alice']}",
                         bob=f"--password-file {files['bob']} --resource his")
    run = Run([TOOL, "--host", "127.0.0.1", "--port", str(server.port), "-c", "/ping", *words.split()], "")
    assert run.status == 0, run.err
    assert "[alice] logged in as alice@example.org/mine\n" in run.out and "[bob] logged in as bob@example.org/his\n" in run.out


def test_rsa_keys_belong_to_accounts(server, tool):
    key = server.path("state", "login-rsa.pub")
    clear = tool.also(server, "bob", "--rsa-key", key)
    assert tool(server, "--no-tls", "--rsa-key", key, *clear, "-c", "/ping").status == 0
    run = tool(server, "--no-tls", "--rsa-key", key, *tool.also(server, "bob"), "-c", "/ping")
    assert run.status == 1 and "[bob] login refused" in run.err


def test_a_login_that_fails_is_told_with_its_name_and_ends_the_run(server, tool):
    run = tool(server, *tool.also(server, "bob", password="not it"), "-c", "/ping")
    assert run.status == 1 and "[bob] login refused: not-authorized" in run.err and "ping:" not in run.out


def test_a_password_that_is_missing_is_told_before_anybody_connects(server, tool):
    run = tool(server, "--as", "bob@example.org", "--password-file", "/nonexistent/pw", "-c", "/ping")
    assert run.status == 1 and "[bob] /nonexistent/pw: No such file" in run.err and "logged in" not in run.out


def test_the_end_of_one_session_ends_the_run(server, tool):
    script = tool.script(server, *tool.also(server, "bob"))
    script.read_until("[bob] online devices")
    script.send("/wait 60")
    server.sql("UPDATE users SET enabled = 0 WHERE username = 'bob'")
    script.read_until("[bob] stream ended by the server: 201 (kicked)")
    assert script.end() == 1 and "[bob] the server ended the stream" in script.err


def test_a_message_of_any_account_that_comes_back_fails_the_script(server, tool):
    run = tool(server, *tool.also(server, "bob"), "-c", "/as bob /to carol; /as bob hello")
    assert run.status == 1 and "[bob] message to carol refused: error 404" in run.out and "[bob] a message was refused" in run.err


def test_accounts_choose_whom_they_talk_to_for_themselves(server, tool):
    run = tool(server, *tool.also(server, "bob"), "-c", "/to bob; /as bob hello")
    assert run.status == 1 and "[bob] to whom?" in run.err


@pytest.mark.parametrize("command, reason", [
    ("/as", "usage: /as"), ("/as carol", "carol: no account of this run"), ("/as bob /as alice /ping", "usage: /as"),
    ("/as bob /as", "usage: /as"), ("/as bob /nix", "[bob] /nix: there is no such command"),
])
def test_bad_switches_are_told(server, tool, command, reason):
    run = tool(server, *tool.also(server, "bob"), "-c", command + "; /ping")
    assert run.status == 1 and reason in run.err and "ping:" not in run.out


def test_a_single_account_has_a_name_but_its_lines_do_not(server, tool):
    run = tool(server, "-c", "/as alice /ping")
    assert run.status == 0 and "[" not in run.out.splitlines()[-1] and "ping: answered" in run.out


def test_terminal_controls_in_a_name_are_not_printed():
    run = Run([TOOL, "a@b", "--as", "x\u202ey@b", "--password-file", "/nonexistent", "--host", "127.0.0.1"], "")
    assert run.status == 1 and "\u202e" not in run.err
    run = Run([TOOL, "a@b", "--password-file", "/dev/null", "--as", "x\u202ey@b", "--password-file", "/nonexistent", "--host", "127.0.0.1"], "")
    assert run.status == 1 and "\u202e" not in run.err


def test_at_a_terminal_each_password_is_asked_for_and_the_prompt_tells_who_acts(server):
    terminal = Terminal([TOOL, "alice@example.org", "--as", "bob@example.org", "--host", "localhost", "--port", str(server.port)])
    terminal.read_until("Password for alice@example.org: ")
    terminal.type("alice's pw\n")
    terminal.read_until("Password for bob@example.org: ")
    terminal.type("bob's pw\n")
    terminal.read_until("[bob] online devices: P[LINUX]")
    terminal.read_until("[alice] > ")
    terminal.type("/as bob\n")
    terminal.read_until("[bob] > ")
    terminal.type("/to alice\n")
    terminal.read_until("[bob] alice@example.org> ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_no_account_is_lost_after_a_while_of_silence(server, tool):
    since = time.monotonic()
    run = tool(server, *tool.also(server, "bob"), "-c", "/wait 500ms")
    assert run.status == 0 and 0.5 <= time.monotonic() - since < 10


@pytest.mark.parametrize("args, reason", [
    (["--as", "bob@b"], "who\\?"), (["a@b", "--as", "bob"], "bob: not USER@DOMAIN"), (["a@b", "--as", "n=bob"], "bob: not USER@DOMAIN"),
    (["a@b", "--as", "bob@b/x"], "not USER@DOMAIN"), (["a@b", "--as", "a@b"], "a: two accounts have this name"),
    (["a@b", "--as", "c@b", "--as", "a=d@b"], "a: two accounts have this name"), (["a@b", "--as", "c@b", "d@b"], "d@b: one USER@DOMAIN is enough"),
    (["a@b", *sum((["--as", f"u{n}@b"] for n in range(32)), [])], "too many accounts"), (["a@b", "--as"], "requires an argument"),
])
def test_wrong_usage_of_accounts_exits_2(args, reason):
    run = Run([TOOL, *args], "")
    assert run.status == 2
    assert re.search(reason, run.err)
