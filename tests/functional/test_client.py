# SPDX-License-Identifier: MIT
"""startalk-client against a real server, and against peers that are up to no good."""
import re
import signal
import socket
import subprocess
import termios
import threading
import time

import pytest

from stk import wire
from stk.tool import RESOURCE, TOOL, Run, Terminal, tool, write  # noqa: F401
from stk.wire import pb

# ---- login ----


def test_logs_in_over_tls_and_pings(server, tool):
    run = tool(server, "-c", "/ping")
    assert run.status == 0, run.err
    assert re.search(rf"^\d\d:\d\d:\d\d logged in as alice@example\.org/{RESOURCE}$", run.out, re.M)
    assert re.search(r"^\d\d:\d\d:\d\d ping: answered in \d+\.\d ms$", run.out, re.M)
    assert re.search(r" navigation version \(notice 3\): \{\"navversion\":\"10000\"\}$", run.out, re.M)
    assert re.search(r" online devices: P\[LINUX\]$", run.out, re.M)
    assert "in clear" not in run.out
    server.wait_log(r"login: alice@example\.org: ok .*TLS")


def test_commands_come_from_a_pipe_too(server, tool):
    run = tool(server, text="\n/ping\r\n  \n/expect ping: answered")
    assert run.status == 0 and "ping: answered" in run.out


def test_empty_input_logs_in_and_leaves(server, tool):
    run = tool(server, text="")
    assert run.status == 0 and "logged in" in run.out


def test_self_signed_certificate_is_accepted_on_this_machine_with_a_warning(server, tool):
    run = tool(server, "-c", "/ping")
    assert run.status == 0
    assert len(run.err.splitlines()) == 1 and "cannot be verified" in run.err


def test_self_signed_certificate_is_refused_where_it_must_be_verified(server, tool):
    run = tool(server, "--tls-verify", "-c", "/ping")
    assert run.status == 1 and "logged in" not in run.out
    assert "cannot be trusted" in run.err and "--tls-ca FILE" in run.err and "--tls-insecure" in run.err
    assert not any("login:" in line for line in server.lines)


def test_servers_own_certificate_is_trusted_when_given(server, tool):
    run = tool(server, "--tls-verify", "--tls-ca", server.path("state", "tls.crt"), "-c", "/ping")
    assert (run.status, run.err) == (0, "")


def test_given_certificate_counts_on_this_machine_too(server, make_server, tool):
    other = make_server(start=False, domain="example.org").start()
    run = tool(server, "--tls-ca", other.path("state", "tls.crt"), "-c", "/ping")
    assert run.status == 1 and "cannot be trusted" in run.err


def test_certificate_of_another_name_is_refused(make_server, tool):
    server = make_server(domain="example.org, example.com")
    state = server.path("state", "tls.crt")
    assert tool(server, "--tls-ca", state, "-c", "/ping", domain="example.com", password="x").status == 1
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                    "/CN=elsewhere.org", "-addext", "subjectAltName=DNS:elsewhere.org", "-days", "2", "-keyout",
                    server.path("other.key"), "-out", server.path("other.crt")], check=True, capture_output=True)
    third = make_server(conf=f"[tls]\ncertificate = {server.path('other.crt')}\nkey = {server.path('other.key')}\n")
    run = tool(third, "--tls-ca", server.path("other.crt"), "-c", "/ping")
    assert run.status == 1 and "cannot be trusted" in run.err and "logged in" not in run.out


def test_tls_insecure_takes_any_certificate_without_a_word(server, tool):
    run = tool(server, "--tls-insecure", "-c", "/ping")
    assert (run.status, run.err) == (0, "")


def test_wrong_password_is_told(server, tool):
    run = tool(server, "-c", "/ping", password="not it")
    assert run.status == 1 and "logged in" not in run.out
    assert "login refused: not-authorized (wrong user name or password)" in run.err


def test_password_is_nowhere_in_the_output(server, tool):
    run = tool(server, "--raw", "-c", "/ping", password="alice's pw")
    assert run.status == 0
    assert "<auth " in run.out and "(not shown)" in run.out
    assert "alice's pw" not in run.out + run.err and "YWxpY2Un" not in run.out + run.err


@pytest.mark.parametrize("tls", [(), ("--no-tls",)])
def test_logs_in_with_rsa(server, tool, tls):
    run = tool(server, "--rsa-key", server.path("state", "login-rsa.pub"), *tls, "-c", "/ping")
    assert run.status == 0, run.err


def test_rsa_password_may_hold_what_json_escapes(make_server, tool):
    server = make_server(users={"alice": 'a"b\\c\td密码'})
    run = tool(server, "--rsa-key", server.path("state", "login-rsa.pub"), "-c", "/ping")
    assert run.status == 0, run.err


def test_rsa_key_of_another_server_is_refused(server, tool, tmp_path):
    subprocess.run(["openssl", "genrsa", "-out", tmp_path / "k", "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", tmp_path / "k", "-pubout", "-out", tmp_path / "p"], check=True, capture_output=True)
    run = tool(server, "--rsa-key", str(tmp_path / "p"), "-c", "/ping")
    assert run.status == 1 and "login refused: not-authorized" in run.err


@pytest.mark.parametrize("content, reason", [(None, "No such file"), ("x\n", "not a public key in PEM")])
def test_bad_rsa_key_is_told_before_connecting(server, tool, tmp_path, content, reason):
    path = tmp_path / "key"
    if content:
        write(path, content)
    run = tool(server, "--rsa-key", str(path), port=1)
    assert run.status == 1 and reason in run.err and "connect" not in run.err


def test_no_tls_goes_in_clear(make_server, tool):
    server = make_server(listen="tls = off")
    key = server.path("state", "login-rsa.pub")
    run = tool(server, "--no-tls", "--rsa-key", key, "-c", "/ping")
    assert (run.status, run.err) == (0, "") and "(in clear)" in run.out
    run = tool(server, "--rsa-key", key, "-c", "/ping")
    assert run.status == 1 and "does not offer TLS" in run.err and "--no-tls" in run.err


def test_no_tls_is_refused_where_tls_is_required(make_server, tool):
    server = make_server(listen="tls = required")
    run = tool(server, "--no-tls", "-c", "/ping")
    assert run.status == 1 and "222" in run.err
    assert tool(server, "-c", "/ping").status == 0


def test_tls_from_the_first_byte(make_server, tool):
    server = make_server(listen="tls = direct")
    run = tool(server, "--tls-direct", "--tls-ca", server.path("state", "tls.crt"), "-c", "/ping")
    assert (run.status, run.err) == (0, "")


def test_resource_may_be_chosen(server, tool):
    run = tool(server, "--resource", "mine", "-c", "/ping")
    assert run.status == 0 and "logged in as alice@example.org/mine\n" in run.out


def test_unknown_domain_is_told(server, tool):
    run = tool(server, "-c", "/ping", domain="nowhere.example")
    assert run.status == 1 and "login refused: the server ended the stream with 222" in run.err


def test_host_that_is_down_is_told(server, tool):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        run = tool(server, "-c", "/ping", port=port)
    assert run.status == 1 and f"cannot connect to 127.0.0.1 port {port}: Connection refused" in run.err


def test_silent_server_times_out(server, tool):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        run = tool(server, "--timeout", "200ms", "-c", "/ping", port=mute.getsockname()[1])
    assert run.status == 1 and "no answer to Welcome: time-out" in run.err


@pytest.mark.parametrize("content, reason", [
    (None, "No such file"), ("", "the password is empty"), ("\nsecond line\n", "the password is empty"),
    ("a\0b\n", "NUL"), ("x" * 5000, "longer than"),
])
def test_bad_password_file_is_told(server, tmp_path, content, reason):
    path = tmp_path / "pw"
    if content is not None:
        write(path, content)
    run = Run([TOOL, "alice@example.org", "--host", "127.0.0.1", "--port", str(server.port), "--password-file", str(path)], "")
    assert run.status == 1 and reason in run.err and "logged in" not in run.out


def test_password_file_needs_no_newline_and_counts_its_first_line(server, tmp_path):
    for text in ("alice's pw", "alice's pw\r\nsecond\n"):
        path = write(tmp_path / "pw", text)
        command = [TOOL, "alice@example.org", "--host", "localhost", "--port", str(server.port), "--password-file", path, "-c", "/ping"]
        assert Run(command).status == 0


# ---- commands ----


def test_raw_shows_both_ways_as_xml(server, tool):
    run = tool(server, "--raw", "-c", "/ping")
    assert run.status == 0
    assert re.search(r"^>> <iq type='get' id='[0-9a-f]{32}'><ping xmlns='urn:xmpp:ping'/></iq>$", run.out, re.M)
    assert re.search(r"^<< <iq [^>]*type='result'[^>]*/>$", run.out, re.M)
    assert re.search(r"^>> <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>$", run.out, re.M)
    run = tool(server, "-c", "/raw on; /ping; /raw off")
    assert run.status == 0 and ">> <iq" in run.out and "<auth" not in run.out


def test_notice_goes_from_one_to_the_other(server, tool):
    bob = subprocess.Popen(tool.arguments(server, "-c", '/expect "online devices"; /expect notice 7', user="bob"),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    server.wait_log(r"login: bob@example\.org: ok")
    first = bob.stdout.readline()
    while b"online devices" not in first:
        first = bob.stdout.readline()
    assert tool(server, "-c", '/notify 7 bob {"text":"你好; hello"}'.replace(";", "\\;")).status == 0
    out, err = bob.communicate(timeout=30)
    assert bob.returncode == 0, err
    assert 'message notice (notice 7) from alice (P[LINUX]): {"text":"你好; hello"}' in out.decode()


def test_presence_of_another_session_is_shown(server, tool, connect):
    connect(server).login()
    run = tool(server, "-c", '/expect "online devices"; /show away; /expect is away; /priority 7')
    assert run.status == 0, run.err
    assert "online devices: P[PC64], P[LINUX]" in run.out or "online devices: P[LINUX], P[PC64]" in run.out
    assert "alice (P[LINUX]) is away, priority 5" in run.out


def test_message_without_a_message_module_comes_back(make_server, tool):
    server = make_server(plugins={"36-message": None})
    run = tool(server, "-c", "/to bob; hello")
    assert run.status == 1
    assert "message to bob refused: error 503 (service-unavailable)" in run.out and "a message was refused" in run.err


def test_ping_without_its_module_is_an_error(make_server, tool):
    server = make_server(plugins={"40-ping": None})
    run = tool(server, "-c", "/ping; /notify 98 alice never sent")
    assert run.status == 1 and "ping: error 503 (service-unavailable)" in run.err and "never sent" not in run.out
    assert tool(server, "-c", "/show away").status == 0


def test_iq_shows_its_answer_or_its_error(server, tool):
    run = tool(server, "-c", "/iq get urn:xmpp:ping ping")
    assert run.status == 0 and "iq: answered" in run.out
    run = tool(server, "-c", "/iq set urn:nobody:has:this thing bob")
    assert run.status == 1 and "iq: error 503" in run.err


def test_expectation_that_is_not_met_fails(server, tool):
    run = tool(server, "-c", "/expect never comes 200ms; /show away")
    assert run.status == 1 and "expected, but not seen: never comes\n" in run.err and "away" not in run.out
    assert tool(server, "-c", "/expect navigation; /expect navigation 0.2s").status == 1
    assert tool(server, "-c", '/expect "(notice 3)" 5; /expect "online devices"; /ping;/expect ping: 5s').status == 0
    run = tool(server, "--timeout", "2s", "-c", "/expect notice 4")  # the number is text, no time
    assert run.status == 1 and "not seen: notice 4\n" in run.err


@pytest.mark.parametrize("command, reason", [
    ("hello", "choose with /to"), ("/nix", "no such command"), ("/msg bob", "usage: /msg"), ("/ping now", "usage: /ping"),
    ("/priority high", "usage: /priority"), ("/priority 128", "usage: /priority"), ("/notify x bob y", "usage: /notify"),
    ("/to a@", "not a JID"), ("/wait long", "usage: /wait"), ("/raw maybe", "usage: /raw"), ("/iq ask urn:x", "usage: /iq"),
    ("/expect", "usage: /expect"), ("/expect \"x\" y", "usage: /expect"), ("/show", "usage: /show"), ("/quit now", "usage: /quit"),
    (b"/notify 7 bob \xff\n", "not valid UTF-8"), (b"/notify 7 bob a\0b\n", "NUL"), (b"x" * 70000, "longer than 64 KiB"),
])
def test_bad_commands_are_told_and_end_the_script(server, tool, command, reason):
    text = command if isinstance(command, bytes) else command + "\n/show away\n"
    run = tool(server, text=text)
    assert run.status == 1 and reason in run.err and "is away" not in run.out


def test_help_lists_the_commands_and_quit_ends(server, tool):
    run = tool(server, "-c", "/help; /quit; /nix")
    assert run.status == 0 and "/expect TEXT" in run.out and "/notify CATEGORY" in run.out


def test_end_of_the_stream_is_explained(server, tool):
    process = subprocess.Popen(tool.arguments(server, "-c", "/wait 30"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    line = b""
    while b"online devices" not in line:
        line = process.stdout.readline()
        assert line, process.communicate()
    server.sql("UPDATE users SET enabled = 0 WHERE username = 'alice'")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"stream ended by the server: 201 (kicked)" in out and b"the server ended the stream" in err


def test_signal_ends_a_script_with_1(server, tool):
    process = subprocess.Popen(tool.arguments(server, "-c", "/wait 30"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    line = b""
    while b"online devices" not in line:
        line = process.stdout.readline()
        assert line, process.communicate()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1 and b"interrupted" in err


# ---- what others send ----


@pytest.mark.parametrize("raw", [(), ("--raw",)])
def test_terminal_controls_of_a_peer_are_not_printed(server, tool, connect, raw):
    evil = "\x1b]0;owned\x07\x9b31m\r\n12:00:00 bob: forged \u202eabc\u2066 \u2028 \x7f end"
    bob = connect(server, "bob").login()
    process = subprocess.Popen(tool.arguments(server, *raw, "-c", "/expect notice 7"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    line = b""
    while b"online devices" not in line:
        line = process.stdout.readline()
        assert line, process.communicate()
    bob.notify(7, evil, "alice@example.org")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    text = out.decode()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", text)
    assert "\n12:00:00 bob: forged" not in text
    assert r"\x1b]0;owned\x07\x9b31m\r\n12:00:00 bob: forged \u202eabc\u2066 \u2028 \x7f end" in text
    if raw:
        assert "&#27;]0;owned&#7;&#155;31m&#13;&#10;" in text and "&#8238;abc" in text


class Impostor:
    """A server that says what it is told; ACT gets the socket when the Welcome is there."""

    def __init__(self, act):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.act = self.listener.getsockname()[1], act
        self.passwords = {"alice": "secret"}
        self.heard = b""
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        sock, _ = self.listener.accept()
        with sock:
            sock.settimeout(20)
            self.heard += sock.recv(65536)
            self.act(sock)
            try:
                while data := sock.recv(65536):
                    self.heard += data
            except OSError:
                pass

    def close(self):
        self.listener.close()
        self.thread.join(20)


def welcome(sockmod):
    inner = pb.WelcomeMessage(domain="example.org", version="1.0", user="alice", sockmod=sockmod)
    return wire.frame(wire.WELCOME, inner, "alice@example.org", "alice@example.org")


def impostor_run(tool, act, *args):
    server = Impostor(act)
    run = tool(server, *args, "-c", "/ping")
    server.close()
    assert run.status == 1 and "logged in" not in run.out
    return run, server


def test_no_password_is_sent_when_tls_is_not_offered(tool):
    run, server = impostor_run(tool, lambda sock: sock.sendall(welcome("")))
    assert "does not offer TLS" in run.err
    reader = wire.Reader()
    reader.feed(server.heard)
    assert reader.next().signal == wire.WELCOME and reader.next() is None


def test_bytes_in_clear_behind_proceed_are_an_injection(tool):
    def act(sock):
        sock.sendall(welcome("TLS"))
        sock.recv(65536)
        success = pb.ResponseSucceeded(code=0, msgId="0", info="")
        sock.sendall(wire.frame(wire.PROCEED, pb.ProceedTLS(), "example.org", "example.org") +
                     wire.frame(wire.SUCCESS, success, "alice@example.org", "alice@example.org"))

    run, _ = impostor_run(tool, act)
    assert "bytes in clear behind" in run.err


@pytest.mark.parametrize("data, reason", [
    (b"\xff\xff\xff\xff\x01", "broken length"),
    (b"\x80\x80\x80\x01", "2 MiB or more"),
    (b"\x03abc", "broken frame"),
    (wire.prefix(pb.ProtoHeader(options=1, message=wire.gzip(b"\0" * (8 << 20))).SerializeToString()), "broken frame"),
    (b"\0", "the server closed the connection"),
    (b"", "the server closed the connection"),
], ids=["length", "huge", "garbage", "bomb", "empty frame", "nothing"])
def test_broken_frames_end_the_run(tool, data, reason):
    def act(sock):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    run, _ = impostor_run(tool, act)
    assert reason in run.err


def test_nothing_of_a_burst_is_held_back_until_more_comes(tool):
    bare, full = "alice@example.org", "alice@example.org/x"

    def notice(number):
        inner = pb.PresenceMessage(value="notify", definedKey=7, categoryType=98, body=pb.MessageBody(value=f"number {number} " + "x" * 60))
        return wire.frame(wire.PRESENCE, inner, bare, full)

    def act(sock):
        reader = wire.Reader()

        def read():
            while not (frame := reader.next()):
                reader.feed(sock.recv(65536))
            return frame

        sock.sendall(welcome(""))
        read()
        sock.sendall(wire.frame(wire.SUCCESS, pb.ResponseSucceeded(code=0, msgId="0", info=""), bare, bare))
        bind = pb.IQMessage(value="bind", messageId=read().inner.messageId, definedKey=80, body=pb.MessageBody(value=full))
        sock.sendall(wire.frame(wire.IQ, bind, full, full))
        read()
        started.wait(20)
        process.send_signal(signal.SIGSTOP)
        sock.sendall(b"".join(notice(number) for number in range(2000)))  # more than is read in one go
        process.send_signal(signal.SIGCONT)

    started = threading.Event()
    server = Impostor(act)
    since = time.monotonic()
    process = subprocess.Popen(tool.arguments(server, "--no-tls", "--timeout", "1s", "-c", '/expect "number 1999" 20'), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    started.set()
    out, _ = process.communicate(timeout=60)
    server.close()
    assert out.count(b"notice 98") == 2000 and time.monotonic() - since < 15


# ---- at a terminal ----


def start_terminal(server):
    terminal = Terminal([TOOL, "alice@example.org", "--host", "localhost", "--port", str(server.port)])
    terminal.read_until("Password for alice@example.org: ")
    terminal.type("alice's pw\n")
    assert "alice's pw" not in terminal.read_until("online devices: P[LINUX]")
    return terminal


def test_asks_for_the_password_without_echo_and_survives_a_bad_command(server):
    terminal = start_terminal(server)
    terminal.type("/nix\n")
    terminal.read_until("no such command")
    terminal.type("/ping\n")
    terminal.read_until("ping: answered")
    terminal.type("/to bob\n")
    terminal.read_until("bob@example.org> ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_ctrl_c_leaves(server):
    terminal = start_terminal(server)
    terminal.read_until("> ")
    terminal.type("\x03")
    assert terminal.end() == 0


def test_ctrl_c_at_the_password_leaves_the_terminal_with_echo(server):
    terminal = Terminal([TOOL, "alice@example.org", "--host", "localhost", "--port", str(server.port)])
    terminal.read_until("Password for")
    deadline = time.monotonic() + 10
    while termios.tcgetattr(terminal.master)[3] & termios.ECHO and time.monotonic() < deadline:
        pass
    terminal.type("\x03")
    terminal.read_until("interrupted")
    assert termios.tcgetattr(terminal.master)[3] & termios.ECHO
    assert terminal.end() == 1


def test_without_a_terminal_the_password_is_not_asked_for(server):
    done = subprocess.run([TOOL, "alice@example.org", "--host", "127.0.0.1", "--port", str(server.port)], input="", text=True,
                          capture_output=True, start_new_session=True, timeout=30, check=False)
    assert done.returncode == 1 and "--password-file" in done.stderr


# ---- command line ----


@pytest.mark.parametrize("args, reason", [
    ([], "USER@DOMAIN"), (["alice"], "not USER@DOMAIN"), (["alice@example.org/x"], "not USER@DOMAIN"), (["a@b", "c@d"], "enough"),
    (["a@b", "--port", "0"], "not a port"), (["a@b", "--port", "5202x"], "not a port"), (["a@b", "--timeout", "soon"], "not a time"),
    (["a@b", "--timeout", "0"], "not a time"), (["a@b", "--no-tls", "--tls-verify"], "--no-tls"), (["a@b", "--frobnicate"], "frobnicate"),
    (["a@b", "--tls-insecure", "--tls-ca", "f"], "--tls-insecure"),
])
def test_wrong_usage_exits_2(args, reason):
    run = Run([TOOL, *args], "")
    assert run.status == 2
    assert re.search(reason, run.err)


def test_help_and_version():
    run = Run([TOOL, "--help"])
    assert (run.status, run.err) == (0, "") and "--tls-verify" in run.out and "--password-file" in run.out
    run = Run([TOOL, "--version"])
    assert (run.status, run.err) == (0, "") and run.out.startswith("startalk-client ")
