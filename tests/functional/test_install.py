# SPDX-License-Identifier: MIT
"""What is installed is whole and right, and a module can be built against it. "make installcheck" runs this on the tree in place;
otherwise one is installed for the tests."""
import os
import re
import shutil
import subprocess
import time

import pytest
from stk import example, wire
from stk.installed import Tree
from stk.server import program
from stk.wire import ROOT


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return Tree(tmp_path_factory.mktemp("tree"))


def test_programs_pages_headers_and_documents_are_installed(tree):
    wanted = [tree.startalkd, f"{tree.bindir}/startalk-client", f"{tree.bindir}/startalk-frame", f"{tree.bindir}/startalk-module-test", f"{tree.docdir}/README.md",
              tree.page("startalkd", 8), tree.page("startalkd.conf", 5), tree.page("startalkd-module", 7), tree.page("startalk-client", 1)]
    wanted += [f"{tree.includedir}/startalkd/{name}" for name in os.listdir(os.path.join(ROOT, "core", "include", "startalkd"))]
    wanted += [f"{tree.moduledir}/{name}.so" for name in os.listdir(os.path.join(ROOT, "modules"))]
    wanted += [f"{tree.docdir}/{name}.md" for name in os.listdir(os.path.join(ROOT, "modules"))]
    missing = [path for path in wanted if not os.path.isfile(path)]
    assert not missing and len(tree.modules()) >= 4


def test_pkg_config_tells_version_and_flags(tree):
    version = subprocess.run([tree.startalkd, "--version"], capture_output=True, text=True, timeout=20).stdout
    assert version == f"startalkd {tree.pkg_config('--modversion')}\n"
    assert tree.pkg_config("--cflags").split() == [f"-I{tree.includedir}"]
    assert tree.pkg_config("--libs") == ""


def options_of_program(tree, name):
    """{(section, key): (type, required, default, range, help)} of a module, or of the core's sections."""
    startalkd = tree.startalkd if tree.in_place else program("startalkd")
    options = {}
    for line in tree.run(startalkd, "--dump-options", name).splitlines():
        section, key, *rest = line.split("\t")
        if key:
            options[section, key] = tuple(rest)
    return options


def plain(text):
    """roff without its requests."""
    text = re.sub(r"\\f[BIRP]", "", text)
    return text.replace("\\%", "").replace("\\(aq", "'").replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")


def options_of_page(tree):
    """The same, of all sections, read from the manual page."""
    with open(tree.page("startalkd.conf", 5), encoding="utf-8") as file:
        text = file.read()
    options = {}
    reference = text[text.index(".SH SECTIONS OF THE CORE"):text.index(".SH EXAMPLES")]
    for part in reference.split(".SS [")[1:]:
        section = plain(part[:part.index("]")])
        for entry in part.split("\n.SH ")[0].split(".TP\n")[1:]:
            head, text, *more = plain(entry).splitlines()
            key, kind = head.split(" = ", 1)
            said = dict(line.rstrip(".").split(": ", 1) if ": " in line else ("Required", "") for line in more)
            options[section, key] = (kind, "required" if "Required" in said else "optional", said.get("Default", ""), said.get("Range", ""),
                                     text.rstrip("."))
    return options


def test_the_manual_page_has_the_options_that_the_programs_have(tree):
    wanted = options_of_program(tree, "core")
    for name in tree.modules():
        wanted.update(options_of_program(tree, name))
    assert ("listen", "port") in wanted and ("bind", "sessions-per-user") in wanted
    assert options_of_page(tree) == {key: (*value[:-1], value[-1].rstrip(".")) for key, value in wanted.items()}


@pytest.mark.parametrize("name", sorted(name for name in os.listdir(os.path.join(ROOT, "modules"))))
def test_a_modules_page_has_the_options_that_the_module_has(tmp_path, name):
    page = os.path.join(ROOT, "modules", name, f"{name}.md")
    done = subprocess.run(["awk", "-v", f"startalkd={program('startalkd')}", "-v", f"name={name}", "-f", os.path.join(ROOT, "doc", "options-md.awk"), page],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with open(page, encoding="utf-8") as file:
        assert file.read() == done.stdout, "make options-pages rewrites it"
    # A page that has drifted is made the same again.
    stale = tmp_path / "stale.md"
    before, options = done.stdout.split("\n## Options\n")
    stale.write_text(before + "\n## Options\n" + re.sub(r"^\| `.*|^None\.", "Something else.", options, count=1, flags=re.M))
    assert subprocess.run([*done.args[:-1], stale], capture_output=True, text=True, timeout=60).stdout == done.stdout


def names_of_headers():
    """Every function, type, constant and macro that the installed headers declare."""
    found = set()
    include = os.path.join(ROOT, "core", "include", "startalkd")
    for header in os.listdir(include):
        with open(os.path.join(include, header), encoding="utf-8") as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
        text = re.sub(r"^(#define .*?)\\\n(?:.*\\\n)*.*$", r"\1", text, flags=re.M)
        found.update(re.findall(r"\b(?:stk|STK)_\w+", text))
    return found


def test_the_manual_page_has_everything_that_the_headers_declare(tree):
    with open(tree.page("startalkd-module", 7), encoding="utf-8") as file:
        page = set(re.findall(r"\b(?:stk|STK)_\w+", plain(file.read())))
    names = names_of_headers()
    assert {"stk_send", "stk_jid_parse", "STK_MODULE", "STK_ROUTE", "stk_users", "stk_session_fn"} <= names and len(names) > 150
    assert sorted(names - page) == []


def test_the_manual_page_has_every_function_that_the_server_offers(tree):
    symbols = subprocess.run(["nm", "-D", "--defined-only", tree.startalkd], capture_output=True, text=True, check=True).stdout
    with open(tree.page("startalkd-module", 7), encoding="utf-8") as file:
        page = plain(file.read())
    offered = {line.split()[-1] for line in symbols.splitlines() if line.split()[-2] == "T" and line.split()[-1].startswith("stk_")}
    assert len(offered) > 80 and sorted(name for name in offered if f"{name}(" not in page) == []


@pytest.mark.parametrize("name, section", [("startalkd", 8), ("startalkd.conf", 5), ("startalkd-module", 7), ("startalk-client", 1),
                                           ("startalk-module-test", 1)])
def test_manual_pages_are_sound(tree, name, section):
    if not shutil.which("groff"):
        pytest.skip("no groff here")
    done = subprocess.run(["groff", "-man", "-ww", "-Tutf8", tree.page(name, section)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == ""
    assert name.upper() in done.stdout and "@core@" not in done.stdout and "@modules@" not in done.stdout and "@reference@" not in done.stdout


def test_manual_pages_name_every_command_line_option(tree):
    with open(tree.page("startalkd", 8), encoding="utf-8") as file:
        page = plain(file.read())
    usage = tree.run(program("startalkd"), "--help")
    wanted = set(re.findall(r"--[a-z-]+", usage))
    assert len(wanted) >= 6 and wanted <= set(re.findall(r"--[a-z-]+", page))


@pytest.fixture
def hello(tree, tmp_path):
    """The example, copied as its reader would."""
    return shutil.copytree(f"{tree.docdir}/examples/hello", tmp_path / "hello")


def test_the_example_is_built_and_its_play_goes_well(tree, hello):
    assert re.search(r"^hello\.play: ok", tree.run("make", "check", cwd=hello), re.M)


@pytest.mark.parametrize("name, option", [("hello", "greeting = <text>  (default: Hello)"), ("wordfilter", "action = <one of: refuse | mask>"),
                                          ("answerbot", "jobs-per-user"), ("auth_http", "ca-file"), ("webhook", "retry-max")])
def test_an_example_is_installed_and_taken_away_again(tree, tmp_path, name, option):
    if not tree.in_place:
        pytest.skip("the server in a tree that is not in its place would not look there; make installcheck does this")
    if name in example.LIBRARIES and not example.has_library(name):
        pytest.skip("no libcurl here")
    folder = shutil.copytree(f"{tree.docdir}/examples", tmp_path / "examples") / name
    before = sorted(os.listdir(tree.moduledir)), sorted(os.listdir(tree.plugindir))
    tree.run("make", "install", cwd=folder)
    try:
        assert option in tree.run(tree.startalkd, "--help-module", name)
    finally:
        tree.run("make", "uninstall", cwd=folder)
    assert before == (sorted(os.listdir(tree.moduledir)), sorted(os.listdir(tree.plugindir)))


@pytest.fixture
def examples(tree, tmp_path):
    """The line of [server] that names a folder with the installed modules and all examples that can be built here."""
    folder = tmp_path / "modules"
    shutil.copytree(tree.moduledir, folder)
    shutil.copytree(f"{tree.docdir}/examples", tmp_path / "examples")
    for name in ("wordfilter", "answerbot", "auth_http", "webhook"):
        if name not in example.LIBRARIES or example.has_library(name):
            tree.run("make", "CFLAGS=-O2 -Wall -Wextra -Werror", cwd=tmp_path / "examples" / name)
            shutil.copy(tmp_path / "examples" / name / f"{name}.so", folder)
    return f"modules-dir = {folder}"


def test_filter_and_bot_are_built_loaded_and_spoken_to(tree, examples, make_server, connect):
    server = make_server(start=False, server=examples, users={"alice": "pw", "primes": "pw"})
    server.startalkd = tree.startalkd
    with open(server.path("words"), "w", encoding="utf-8") as file:
        file.write("damn\n")
    server.plugin("80-wordfilter", "[wordfilter]\nwords = ../words")
    server.plugin("81-answerbot", "[answerbot]\njid = primes@example.org")
    alice = connect(server.start()).login()
    alice.message("primes@example.org", "Damn")
    assert alice.expect(wire.ERROR).inner.body.value.startswith("This message has words")
    alice.message("primes@example.org", "1000")
    assert alice.expect(wire.CHAT).inner.body.value == "168 primes below 1000"


def test_what_talks_to_http_servers_is_built_loaded_and_spoken_to(tree, examples, make_server, connect):
    if not example.has_library("webhook"):
        pytest.skip("no libcurl here")
    web = example.Web(lambda request: (200, "OK"))
    try:
        server = make_server(start=False, server=examples, users=False, plugins={"10-auth_sqlite": None})
        server.startalkd = tree.startalkd
        server.plugin("10-auth_http", f"[auth_http]\nurl = {web.url}/login")
        server.plugin("82-webhook", f"[webhook]\nurl = {web.url}/messages")
        alice = connect(server.start()).login("any")
        alice.receipt(alice.message("bob@example.org", "hi"))
        assert [request.path for request in web.wait(2)] == ["/there/login", "/there/messages"]
    finally:
        web.close()


# ---- the module author's guide ----

GUIDE = os.path.join(ROOT, "doc", "module-guide.md")


def guide_blocks():
    """(language, name of the file or None, text) of each block of the guide; a file's name stands above its block."""
    with open(GUIDE, encoding="utf-8") as file:
        text = file.read()
    found = re.findall(r"(?:^`([\w./]+)`:\n\n)?^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [(language, name or None, block) for name, language, block in found]


def guide_script(skip):
    """The guide as one shell script that writes its files and does its commands; those with a word of SKIP are left out."""
    lines = ["set -eu"]
    for language, name, block in guide_blocks():
        if name:
            lines.append(f"mkdir -p $(dirname {name})\ncat >{name} <<'END OF FILE'\n{block}END OF FILE")
        elif language == "sh" and not any(word in block for word in skip):
            lines.append(block)
    return "\n".join(lines)


def is_sanitized(tree):
    done = subprocess.run(["nm", "-D", tree.startalkd], capture_output=True, text=True, check=True)
    return "__asan_init" in done.stdout or "__tsan_init" in done.stdout


def test_the_guide_is_installed(tree):
    with open(f"{tree.docdir}/module-guide.md", encoding="utf-8") as installed, open(GUIDE, encoding="utf-8") as source:
        assert installed.read() == source.read()


def test_the_guides_commands_work_in_an_empty_folder(tree, tmp_path, capsys):
    skip = ["fsanitize"] if is_sanitized(tree) or not shutil.which("gcc") else []
    skip += [] if shutil.which("dh") else ["dpkg-buildpackage"]
    skip += [] if shutil.which("dpkg-deb") else ["dpkg-deb"]
    started = time.monotonic()
    out = tree.run("sh", "-c", guide_script(skip), cwd=tmp_path)
    took = time.monotonic() - started
    plays = re.findall(r"^(\w+)\.play: ok", out, re.M)
    wanted = ["time", "slow", "notes", "beat"] + ["time"] * (("fsanitize" not in skip) + ("dpkg-buildpackage" not in skip))
    assert plays == wanted, out
    assert len(re.findall(r"/time\.so$", out, re.M)) == ("dpkg-deb" not in skip) + ("dpkg-buildpackage" not in skip)
    with capsys.disabled():
        print(f"\nthe guide's commands took {took:.0f} s", "without " + ", ".join(skip) if skip else "")
    assert took < 300  # leaves half of the ten minutes for reading


# What makes a module be refused, in the sources: the words between what is put in.
REFUSALS = {"core/module.c": r'(?:snprintf\((?:err, errlen|fault, sizeof\(fault\))|LOG_ERR), "((?:[^"\\]|\\.|"\s+")*)"',
            "core/modapi.c": r'LOG_ERR, "(module: [^"]*already[^"]*)"', "core/service.c": r'LOG_ERR, "(module: [^"]*)"'}


@pytest.mark.parametrize("path", REFUSALS)
def test_the_guide_explains_why_a_module_is_refused(path):
    with open(GUIDE, encoding="utf-8") as file:
        guide = file.read()
    table = guide[guide.index("## When it is not loaded"):guide.index("## A package")]
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        messages = [re.sub(r'"\s+"', "", message) for message in re.findall(REFUSALS[path], file.read())]
    assert messages
    for message in messages:
        for words in re.split(r"%\w+|'%s'|%|: ", message):
            words = words.strip(" ,.;()'")
            assert len(words) < 8 or words in table, f"{words!r} of {message!r} is not in the guide's table"
