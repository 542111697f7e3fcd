# SPDX-License-Identifier: MIT
"""Modules, and the command line that shows what is loaded."""
import os
import re
import subprocess

import pytest
from stk.server import BUILD, program


def test_without_its_file_ping_is_503_and_nothing_else_changes(make_server, connect):
    server = make_server(plugins={"40-ping": None})
    client = connect(server).login()
    reply = client.ping()
    assert reply.inner.definedKey == 90 and reply.headers()[0] == (42, "503")
    client.notify(7, "still here")
    assert client.expect_notice(7)


def test_check_says_ok_and_does_not_touch_the_state(make_server):
    server = make_server(start=False)
    done = server.run("--check")
    assert done.returncode == 0 and done.stdout.strip().endswith("startalkd.conf: ok")
    assert not os.path.exists(server.path("state"))


@pytest.mark.parametrize("kwargs, fault", [
    (dict(listen="prot = 1"), r"startalkd.conf:\d+: unknown key 'prot' in \[listen\]; did you mean 'port'\?"),
    (dict(listen="tls = maybe"), r"startalkd.conf:\d+: tls: 'maybe' is none of off, optional, required, direct"),
    (dict(limits="max-frame = 2 MiB"), r"startalkd.conf:\d+: max-frame: 2 MiB is out of range"),
    (dict(login="bind-timeout = 5"), r"startalkd.conf:\d+: bind-timeout: '5' is not a duration"),
    (dict(conf="[pingg]"), r"startalkd.conf:\d+: module 'pingg': there is no pingg.so"),
    (dict(plugins={"20-bind": "[bind]\nsessions-per-usr = 3"}), r"20-bind.conf:2: unknown key 'sessions-per-usr' in \[bind\]; did you mean 'sessions-per-user'\?"),
    (dict(plugins={"50-again": "[bind]"}), r"50-again.conf:1: \[bind\] is at .*20-bind.conf:2 already"),
    (dict(plugins={"30-presence": "[presence]\nnavversion ="}), r"30-presence.conf:2: navversion: must have 1 to 64 bytes"),
])
def test_faults_of_the_configuration_come_with_file_and_line(make_server, kwargs, fault):
    server = make_server(start=False, **kwargs)
    for done in (server.run("--check"), server.run()):
        assert done.returncode == 1
        assert re.search(fault, done.stderr), done.stderr


def test_a_missing_configuration_is_told_as_such():
    done = subprocess.run([program("startalkd"), "-c", "/nowhere/x.conf"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "/nowhere/x.conf: cannot be read: No such file" in done.stderr


def test_without_a_mechanism_there_is_no_start(make_server):
    server = make_server(start=False, plugins={"10-auth_sqlite": None})
    done = server.run()
    assert done.returncode == 1 and "no module offers a SASL mechanism" in done.stderr


def test_two_servers_do_not_share_a_state_directory(server):
    done = server.run()
    assert done.returncode == 1 and "another startalkd runs with this state directory" in done.stderr


def test_a_port_in_use_is_told(make_server, server):
    other = make_server(start=False, conf=f"[listen again]\nport = {server.port}")
    done = other.run()
    assert done.returncode == 1 and f"127.0.0.1:{server.port}: Address already in use" in done.stderr


def test_plan_shows_modules_mechanisms_handlers_and_hooks(make_server):
    plan = make_server(start=False).run("--plan")
    assert plan.returncode == 0
    for wanted in (r"^  auth_sqlite +0\.1 ", r"^  PLAIN +auth_sqlite$", r"^  iq +get +urn:xmpp:ping +ping$",
                   r"^  iq +set +urn:ietf:params:xml:ns:xmpp-bind +bind$", r"^  session-closed +priority 0 +presence$"):
        assert re.search(wanted, plan.stdout, re.M), plan.stdout


def test_help_module_prints_options_of_modules_and_core_sections():
    for name, wanted in (("bind", "sessions-per-user = <number>  (default: 10)"), ("listen", "tls = <one of: off | optional | required | direct>"),
                         ("auth_sqlite", "plain-without-tls"), ("limits", "max-send-queue")):
        done = subprocess.run([program("startalkd"), "--help-module", name], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0 and wanted in done.stdout, done
    done = subprocess.run([program("startalkd"), "--help-module", "nosuch"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "there is no nosuch.so" in done.stderr


def test_version_help_and_usage_errors():
    def run(*args):
        return subprocess.run([program("startalkd"), *args], capture_output=True, text=True, timeout=20)
    assert re.fullmatch(r"startalkd \d+\.\d+\.\d+\n", run("--version").stdout)
    assert "--help-module" in run("--help").stdout
    assert run("--nosuch").returncode == 2 and run("extra").returncode == 2


def symbols(path, *flags):
    done = subprocess.run(["nm", "-D", *flags, path], capture_output=True, text=True, check=True)
    return [line.split()[-1].split("@")[0] for line in done.stdout.splitlines()]


def test_the_daemon_exports_what_modules_may_call_and_nothing_else():
    if "__asan_init" in symbols(program("startalkd")) or "__tsan_init" in symbols(program("startalkd")):
        pytest.skip("a sanitizer exports symbols of its own")
    names = symbols(program("startalkd"), "--defined-only")
    assert names and all(name.startswith("stk_") for name in names), names


MODULES = sorted(name for name in os.listdir(os.path.join(BUILD, "modules")) if os.path.exists(os.path.join(BUILD, "modules", name, f"{name}.so")))
SANITIZER = ("__asan", "__ubsan", "__tsan", "__odr", "__sanitizer", "__gcov", "__llvm", "_Unwind")


def module_path(name):
    return os.path.join(BUILD, "modules", name, f"{name}.so")


def needed_libraries(path):
    """The files of the libraries that a module itself names, not those that they need in turn."""
    dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    said = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    found = {os.path.basename(name): file or name for name, file in re.findall(r"^\s*(\S+)(?: => (\S+))? \(", said, re.M)}
    return [found[name] for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)]


@pytest.mark.parametrize("name", MODULES)
def test_modules_export_their_definition_and_nothing_else(name):
    own = {symbol for symbol in symbols(module_path(name), "--defined-only") if not symbol.startswith(SANITIZER)}
    assert own == {"stk_module_def"}, own


@pytest.mark.parametrize("name", MODULES)
def test_modules_need_what_the_daemon_exports_and_the_libraries_that_they_name(name):
    path = module_path(name)
    exported = set(symbols(program("startalkd"), "--defined-only"))
    provided = {symbol for library in needed_libraries(path) for symbol in symbols(library, "--defined-only")}
    lines = subprocess.run(["nm", "-D", "--undefined-only", path], capture_output=True, text=True, check=True).stdout.splitlines()
    needed = {line.split()[-1].split("@")[0] for line in lines if line.split()[-2] == "U"}
    used = {symbol for symbol in needed if symbol.startswith("stk_")}
    assert used and used <= exported, used - exported
    others = {symbol for symbol in needed - used - provided if not symbol.startswith(SANITIZER)}
    assert not others, others


def test_starting_and_stopping_without_a_client_is_clean(server):
    assert server.process.poll() is None
