# SPDX-License-Identifier: MIT
"""The example auth_http, against a real HTTP server that answers well, badly, late or not at all."""
import re
import signal
import subprocess
import threading
import time
from urllib.parse import parse_qs

import pytest
from stk import example, wire
from stk.client import Closed

PASSWORD = "s3cret & more=1 %ü"


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    return example.modules_dir(tmp_path_factory.mktemp("auth_http"), "auth_http")


class Backend(example.Web):
    """Knows alice and bob. `way` says how the next answers are."""

    def __init__(self, **kwargs):
        self.way, self.go_on = "good", threading.Event()
        super().__init__(self.judge, **kwargs)

    def judge(self, request):
        form = {key: value[0] for key, value in parse_qs(request.body.decode(), strict_parsing=True).items()}
        good = form["user"] in ("alice", "bob") and form["domain"] == "example.org" and form["password"] == PASSWORD
        answers = {
            "good": (200, "OK\n") if good else (403, "no"), "500": (500, "OK"), "204": (204, ""), "201": (201, "OK"),
            "garbage": (200, "<html>OK</html>"), "empty": (200, ""), "nearly": (200, "OK?"), "NUL": (200, "OK\0\n"),
            "huge": (200, "OK" + " " * 100000), "redirect": (302, "OK", {"Location": f"http://127.0.0.1:{self.port}/elsewhere"}),
        }
        if self.way == "slow":
            self.go_on.wait(30)
            return (200, "OK")
        return answers[self.way]

    def close(self):
        self.go_on.set()
        super().close()


@pytest.fixture
def backend():
    web = Backend()
    yield web
    web.close()


@pytest.fixture
def serve(modules, make_server):
    """serve(url, options): a server whose users are those of an HTTP server."""
    def make(url, options="", start=True, **kwargs):
        plugins = {"10-auth_sqlite": None, "10-auth_http": f"[auth_http]\nurl = {url}\n{options}", **kwargs.pop("plugins", {})}
        return make_server(server=modules, users=False, plugins=plugins, start=start, **kwargs)
    return make


def try_login(connect, server, password=PASSWORD, user="alice", **kwargs):
    client = connect(server, user)
    client.welcome()
    client.starttls()
    return client, client.auth(password, **kwargs)


def log_is_clean(server):
    log = "\n".join(server.lines)
    assert "s3cret" not in log and "password=" not in log and wire_safe(PASSWORD) not in log


def wire_safe(text):
    return "".join(f"%{byte:02X}" for byte in text.encode())


def test_the_right_password_logs_in_and_messages_flow(serve, backend, connect):
    server = serve(backend.url)
    alice, bob = connect(server).login(PASSWORD), connect(server, "bob").login(PASSWORD)
    sent = alice.message("bob@example.org", "hi")
    assert bob.expect(wire.CHAT).inner.messageId == sent
    request = backend.requests[0]
    assert request.path == "/there" and request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    log_is_clean(server)


def test_the_name_is_folded_and_a_domain_may_be_said(serve, backend, connect):
    server = serve(backend.url)
    client, reply = try_login(connect, server, user="ALICE")
    assert reply.signal == wire.SUCCESS and client.bind().inner.body.value.startswith("alice@example.org/")
    _, reply = try_login(connect, server, user="alice")
    assert reply.signal == wire.SUCCESS


@pytest.mark.parametrize("user, password, why", [
    ("alice", "wrong", r"the HTTP server says no \(403\)"), ("carol", PASSWORD, r"the HTTP server says no \(403\)"),
    ("alice", "", "the password is empty"),
])
def test_a_wrong_password_is_refused_and_the_client_may_try_again(serve, backend, connect, user, password, why):
    server = serve(backend.url)
    client, reply = try_login(connect, server, password, user)
    assert reply.signal == wire.FAILURE and reply.inner.error == "not-authorized"
    server.wait_log(f"login: {user}@example.org: refused: {why}")
    log_is_clean(server)
    if user == "alice":
        assert client.auth(PASSWORD).signal == wire.SUCCESS


@pytest.mark.parametrize("way, why", [
    ("500", "makes no sense: status 500"), ("204", "makes no sense: status 204"), ("201", "makes no sense: status 201"),
    ("garbage", "makes no sense: status 200"), ("empty", "makes no sense: status 200"), ("nearly", "makes no sense: status 200"),
    ("NUL", "makes no sense: status 200"), ("redirect", "makes no sense: status 302"), ("huge", "the answer has more than 4096 bytes"),
])
def test_whatever_is_not_a_clear_yes_is_a_no(serve, backend, connect, way, why):
    server = serve(backend.url)
    backend.way = way
    client, reply = try_login(connect, server)
    assert reply.signal == wire.FAILURE
    server.wait_log(rf"login: alice@example.org: refused: .*{why}")
    assert all(request.path == "/there" for request in backend.requests), "no redirect is followed"
    log_is_clean(server)
    backend.way = "good"
    assert client.auth(PASSWORD).signal == wire.SUCCESS


def test_a_slow_answer_is_a_no_in_time_and_holds_up_nobody(serve, backend, connect):
    server = serve(backend.url, "timeout = 500ms")
    bob = connect(server, "bob").login(PASSWORD)
    backend.way = "slow"
    client = connect(server)
    client.welcome()
    client.starttls()
    client.send_auth(PASSWORD)
    backend.wait(2)
    assert bob.ping(messageId="while").inner.definedKey == 80
    start = time.monotonic()
    assert client.expect(wire.FAILURE).inner.error == "not-authorized"
    assert time.monotonic() - start < 5
    server.wait_log("refused: the HTTP server did not answer: .*timed out")


def test_a_server_that_is_down_is_a_no_until_it_is_there_again(serve, backend, connect):
    server = serve(backend.url)
    port = backend.port
    backend.close()
    client, reply = try_login(connect, server)
    assert reply.signal == wire.FAILURE
    server.wait_log("refused: the HTTP server did not answer: .*(refused|connect)")
    again = Backend(port=port)
    try:
        assert client.auth(PASSWORD).signal == wire.SUCCESS
    finally:
        again.close()


def test_connections_are_kept_and_are_not_more_than_allowed(serve, backend, connect):
    server = serve(backend.url, "connections = 1")
    for _ in range(5):
        assert try_login(connect, server)[1].signal == wire.SUCCESS
    assert (len(backend.requests), backend.connections) == (5, 1)
    clients = [connect(server) for _ in range(6)]
    for client in clients:
        client.welcome()
        client.starttls()
    for client in clients:
        client.send_auth(PASSWORD)
    for client in clients:
        client.expect(wire.SUCCESS)
    assert (len(backend.requests), backend.connections) == (11, 1)


def test_more_logins_than_allowed_are_refused(serve, backend, connect):
    server = serve(backend.url, "logins = 1")
    backend.way = "slow"
    waiting = connect(server)
    waiting.welcome()
    waiting.starttls()
    waiting.send_auth(PASSWORD)
    backend.wait(1)
    assert try_login(connect, server, user="bob")[1].signal == wire.FAILURE
    server.wait_log("refused: too many logins are under way")
    backend.go_on.set()
    waiting.expect(wire.SUCCESS)


def test_an_encrypted_password_is_asked_for_in_clear(serve, backend, connect):
    server = serve(backend.url)
    client, reply = try_login(connect, server, "A" * 171 + "=")
    assert reply.signal == wire.FAILURE and reply.inner.error == "cancel-rsa"
    assert client.auth(PASSWORD).signal == wire.SUCCESS and len(backend.requests) == 1


def test_nothing_is_asked_outside_tls_for_other_accounts_or_past_the_limits(serve, backend, connect):
    server = serve(backend.url, login="user-tries = 2")
    client = connect(server)
    client.welcome()
    assert client.auth(PASSWORD).signal == wire.FAILURE
    assert try_login(connect, server, authzid="bob")[1].signal == wire.FAILURE
    assert not backend.requests
    for _ in range(4):
        assert try_login(connect, server, "wrong")[1].signal == wire.FAILURE
    server.wait_log("refused: too many failed tries lately")
    assert len(backend.requests) < 4


def test_a_client_that_goes_away_leaves_nothing_behind(serve, backend, connect):
    server = serve(backend.url)
    backend.way = "slow"
    client = connect(server)
    client.welcome()
    client.starttls()
    client.send_auth(PASSWORD)
    backend.wait(1)
    client.close()
    server.wait_log("session: ")
    backend.way = "good"
    assert try_login(connect, server, user="bob")[1].signal == wire.SUCCESS


def test_reload_in_the_middle_of_a_login_lets_it_end(serve, backend, connect):
    server = serve(backend.url)
    backend.way = "slow"
    client = connect(server)
    client.welcome()
    client.starttls()
    client.send_auth(PASSWORD)
    backend.wait(1)
    server.plugin("10-auth_http", f"[auth_http]\nurl = {backend.url}2\nconnections = 2")
    server.signal(signal.SIGHUP)
    server.wait_log("reload: done")
    backend.go_on.set()
    client.expect(wire.SUCCESS)
    backend.way = "good"
    assert try_login(connect, server)[1].signal == wire.SUCCESS
    assert backend.requests[-1].path == "/there2"


def test_unload_in_the_middle_of_a_login_refuses_it(serve, backend, connect):
    server = serve(backend.url)
    backend.way = "slow"
    client = connect(server)
    client.welcome()
    client.starttls()
    client.send_auth(PASSWORD)
    backend.wait(1)
    server.plugin("10-auth_http", None)
    server.plugin("10-auth_sqlite", "[auth_sqlite]")
    server.signal(signal.SIGHUP)
    client.expect(wire.FAILURE)
    server.wait_log("refused: the module that was asked is unloaded")
    server.sql("INSERT INTO users (username, password) VALUES ('alice', 'local')")
    assert client.auth("local").signal == wire.SUCCESS


def test_the_server_stops_in_the_middle_of_a_login(serve, backend, connect):
    server = serve(backend.url)
    backend.way = "slow"
    client = connect(server)
    client.welcome()
    client.starttls()
    client.send_auth(PASSWORD)
    backend.wait(1)
    server.stop()
    with pytest.raises((AssertionError, Closed)):
        client.expect(wire.SUCCESS)


def test_beside_auth_sqlite_it_is_not_loaded_and_both_are_named(serve, backend):
    server = serve(backend.url, start=False, plugins={"10-auth_sqlite": "[auth_sqlite]"})
    done = server.run()
    assert done.returncode == 1
    assert re.search(r"module: auth_(http|sqlite): SASL mechanism PLAIN belongs to module auth_(sqlite|http) already; disable one", done.stderr)


@pytest.mark.parametrize("options, fault", [
    ("url = http://example.org/", "url: example.org would be asked without TLS"),
    ("url = http://127.0.0.1.example.org/", "would be asked without TLS"),
    ("url = http://localhost/", "would be asked without TLS"),
    ("url = ftp://127.0.0.1/", "is neither https:// nor http://"),
    ("url = http://", "is no URL"),
    ("timeout = 5s", "url"),
])
def test_check_finds_faults(serve, options, fault):
    server = serve("x", start=False, plugins={"10-auth_http": f"[auth_http]\n{options}"})
    done = server.run("--check")
    assert done.returncode == 1 and fault in done.stderr, done.stderr


@pytest.mark.parametrize("url", ["https://example.org/login", "http://[::1]/", "http://127.9.9.9:99/x"])
def test_check_takes_what_is_safe(serve, url):
    assert serve(url, start=False).run("--check").returncode == 0


def test_http_elsewhere_is_for_who_says_so(serve):
    assert serve("http://example.org/", "allow-http = on", start=False).run("--check").returncode == 0


def make_certificate(folder, name):
    key, certificate = f"{folder}/{name}.key", f"{folder}/{name}.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def test_the_certificate_is_verified(serve, connect, tmp_path):
    own, other = make_certificate(tmp_path, "own"), make_certificate(tmp_path, "other")
    web = Backend(certificate=own)
    try:
        for options, good in (("", False), (f"ca-file = {other[0]}", False), (f"ca-file = {own[0]}", True)):
            server = serve(web.url, options)
            assert (try_login(connect, server)[1].signal == wire.SUCCESS) == good, options
            if not good:
                server.wait_log("refused: the HTTP server did not answer: .*certificate")
        assert len(web.requests) == 1
    finally:
        web.close()
