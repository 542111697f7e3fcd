# SPDX-License-Identifier: MIT
"""startalk-module-test: what holds passes, and whatever does not hold fails and says so."""
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from stk import plugin
from stk.server import BUILD, program

HERE = os.path.dirname(os.path.abspath(__file__))
USERS = "user alice password secret\nuser bob password b0b\n"
ASK = "alice sends <iq type='get' id='1'><query xmlns='urn:example:clumsy' do='{}'/></iq>\n"
GOT = "alice receives <iq type='result' id='1'/>\n"


@pytest.fixture(scope="module")
def clumsy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clumsy")
    plugin.build(folder, "clumsy.c")
    return folder / "clumsy.so"


class Play:
    def __init__(self, module, folder, text, *options, head=USERS):
        self.file = folder / "a.play"
        self.file.write_text(head + text, encoding="utf-8")
        folders = folder / "tmp"
        folders.mkdir(exist_ok=True)
        done = subprocess.run([program("startalk-module-test"), *options, module, self.file], capture_output=True, text=True, timeout=120,
                              env={**os.environ, "TMPDIR": str(folders), "WORD": "told"})
        self.status, self.out, self.err, self.left = done.returncode, done.stdout, done.stderr, os.listdir(folders)


@pytest.fixture
def play(clumsy, tmp_path):
    return lambda text, *options, **kwargs: Play(clumsy, tmp_path, text, *options, **kwargs)


def good(played):
    assert (played.status, played.err, played.left) == (0, "", []), played.out + played.err
    assert re.fullmatch(r".*a\.play: ok \(\d+ steps, [\d.]+ s\)\n", played.out)


def bad(played, *said):
    """It failed, at a line that it names, and says SAID."""
    assert played.status == 1, played.out + played.err
    assert re.match(r".*a\.play(:\d+)?: failed: ", played.err), played.err
    assert "the end of the server's log:" in played.err and played.left == []
    missing = [text for text in said if text not in played.err]
    assert not missing, played.err


def test_ping_answers_as_its_play_says():
    done = subprocess.run([program("startalk-module-test"), os.path.join(BUILD, "modules", "ping", "ping.so"), f"{HERE}/ping.play"],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "ping.play: ok" in done.stdout, done.stdout + done.stderr


# ---- what holds ----

HOLDS = {
    "an answer by its attributes": f"alice connects\n{ASK.format('')}alice receives <iq id='1'><query xmlns='urn:example:clumsy' word='pl*n'/></iq>\n",
    "a star that is meant": f"alice connects\n{ASK.format('')}alice receives <iq><query xmlns='urn:example:clumsy' star='a\\*b'/></iq>\n",
    "an exact answer": f"alice connects\n{ASK.format('')}"
                       "alice receives exactly <iq type='result' id='1'><query xmlns='urn:example:clumsy' word='*' star='*'/></iq>\n",
    "options, quoted and from the environment": "module option word = \"a ; b\"\nalice connects\n" + ASK.format("")
        + "alice receives <iq><query xmlns='urn:example:clumsy' word='a ; b'/></iq>\nserver reloads with option word = ${WORD}\n"
        + 'server log has "word is told"\n' + ASK.format("") + "alice receives <iq><query xmlns='urn:example:clumsy' word='told'/></iq>\n",
    "a configuration that is refused": 'server starts\nserver fails to reload with option word = ""\nserver stops\n'
        'server fails to start saying "word: must have 1 to 20 bytes"\nmodule option word = x\nserver starts\n',
    "an answer to what was received": "with archive\nalice connects\nbob/phone connects over tls\n"
        "bob/phone sends <message to='alice@example.org' type='chat'><body id='m1'>hi</body></message>\n"
        "alice receives <message type='chat' from='bob@example.org/phone'><body>hi</body></message>\n"
        "alice sends <message to='${from}' type='chat'><body id='m2'>you, too</body></message>\n"
        "bob/phone receives <message from='alice@example.org/test'><body>you, too</body></message>\nbob/phone receives <message type='mstat'/>\n",
    "several sessions": "alice connects as laptop\nalice/phone connects\nalice/phone receives nothing for 50ms\nalice disconnects\nalice connects\n",
    "presence beside other things": f"alice connects\n{ASK.format('talk')}alice receives <message><body>by the way</body></message>\n{GOT}"
        "alice receives <presence category='3'/>\nalice receives no for 50ms <message/>\n",
    "a login that is refused": "user eve password x without account\neve is refused saying \"not-authorized\"\neve is refused over tls\n",
    "an end with its code": f"alice connects\n{ASK.format('end')}alice is disconnected with 203\nalice connects\n",
    "a stop that clients are told of": "alice connects\nserver stops\nalice is disconnected with 111 within 3s\nserver starts\nserver restarts\n",
    "allowed complaints": f"server log may have \"kept the router\"\nalice connects\n{ASK.format('sleep')}{GOT}"
        f"{ASK.format('complain')}{GOT}server log has \"complaint\"\n",
    "files and commands": "file words\n    one\n      two\n\n    three\nserver starts\n"
        "shell test \"$(wc -l <$DIR/words)\" = 4\nshell\n    grep -q '^  two' $DIR/words\n    test -n \"$PORT\" -a -f $DIR/state/startalk.db\nwait 1ms\n",
    "a comment": "# nothing\n\n   # an indented one\nserver starts\n",
}


@pytest.mark.parametrize("name", HOLDS)
def test_what_holds_passes(play, name):
    good(play(HOLDS[name]))


# ---- what does not ----

SOON = "timeout 300ms\n"
FAILS = {
    "another attribute": (f"alice connects\n{ASK.format('')}alice receives <iq><query xmlns='urn:example:clumsy' word='other'/></iq>\n",
                          "expected: <iq><query", "came:     <iq ", "attribute word of <query> is 'plain', not 'other'", "a.play:5: failed: alice receives"),
    "an attribute that is missing": (f"alice connects\n{ASK.format('')}alice receives <iq><query xmlns='urn:example:clumsy' colour='*'/></iq>\n",
                                     "<query> has no attribute colour='*'"),
    "another namespace": (f"alice connects\n{ASK.format('')}alice receives <iq><query xmlns='urn:example:other'/></iq>\n", "in namespace 'urn:example:clumsy', not"),
    "another text": (f"alice connects\n{ASK.format('')}alice receives <iq><query xmlns='urn:example:clumsy'>text</query></iq>\n", "the text of <query> is '', not 'text'"),
    "a child that is missing": (f"alice connects\n{ASK.format('')}alice receives <iq><query xmlns='urn:example:clumsy'/><more/></iq>\n", "<iq> has no <more> behind the others"),
    "more than exactly that": (f"alice connects\n{ASK.format('')}alice receives exactly <iq id='1' type='result'><query xmlns='urn:example:clumsy' word='plain'/></iq>\n",
                               "<query> has star='a*b', too"),
    "a child more than exactly that": (f"alice connects\n{ASK.format('')}alice receives exactly <iq id='1' type='result'/>\n", "<iq> has <query>, too"),
    "another stanza": (f"alice connects\n{ASK.format('talk')}{GOT}", "came:     <message", "it is <message>, not <iq>"),
    "nothing where something is expected": ("alice connects\nalice receives within 100ms <message/>\n", "it did not come within 0.1 s"),
    "the timeout of the play": (f"{SOON}alice connects\nalice receives <iq/>\n", "it did not come within 0.3 s"),
    "a presence that does not come": (f"{SOON}alice connects\nalice receives <presence show='away'/>\n", "came:     <presence"),
    "something where nothing is expected": (f"alice connects\n{ASK.format('talk')}alice receives nothing\n", "alice was to receive nothing", "came:     <message"),
    "what must not come": (f"alice connects\n{ASK.format('talk')}alice receives no <message/>\n", "no such stanza"),
    "a login that fails": ("user eve password x without account\neve connects\n", "eve cannot log in: login refused: not-authorized"),
    "a refusal that is none": ("alice is refused\n", "alice was let in"),
    "a refusal of another kind": ("user eve password x without account\neve is refused saying \"no-user\"\n", "eve was refused otherwise", "not-authorized"),
    "an end that does not come": (f"{SOON}alice connects\nalice is disconnected\n", "alice is still connected after 0.3 s"),
    "an end with another code": (f"alice connects\n{ASK.format('end')}alice is disconnected with 201\n", "ended with 203, not 201"),
    "an end that is not expected": (f"alice connects\n{ASK.format('end')}{GOT}{GOT}", "alice's connection is over: log in anew"),
    "who is not connected": ("server starts\nalice receives nothing\n", "alice is not connected"),
    "who is connected already": ("alice connects\nalice connects\n", "alice is connected already"),
    "a log without the text": (f"{SOON}server starts\nserver log has \"no such words\"\n", "the server's log does not have it after 0.3 s: no such words"),
    "a log with the text": ("server starts\nserver log has no \"server: ready\"\n", "the server's log has it: "),
    "a reload that is refused": ("server starts\nserver reloads with option word = \"\"\n", "the server refuses the configuration", "must have 1 to 20 bytes"),
    "a reload that is not refused": ("server starts\nserver fails to reload with option word = x\n", "the server takes the configuration"),
    "a refused reload for another reason": ('server starts\nmodule option word = ""\nserver fails to reload saying "other"\n', "does not say: other"),
    "a start that is refused": ("module option wrod = x\nserver starts\n", "the server does not start", "wrod"),
    "a start that is not refused": ("server fails to start\n", "the server has started"),
    "a refused start for another reason": ('module option wrod = x\nserver fails to start saying "no such words"\n', "the server does not say: no such words"),
    "a start of what runs": ("server starts\nserver starts\n", "the server runs already"),
    "a stop of what does not run": ("server starts\nserver stops\nserver stops\n", "the server does not run"),
    "a command that fails": ("server starts\nshell echo because; exit 4\n", "the command ended with status 4", "because"),
    "a command that does not end": (f"{SOON}server starts\nshell sleep 30\n", "the command does not end within 0.3 s"),
    "a crash": (f"alice connects\n{ASK.format('crash')}{GOT}", "the server was ended by signal 6"),
    "a crash behind the last step": (f"alice connects\n{ASK.format('crash')}wait 300ms\n", "failed: the server's end", "signal 6"),
    "an exit": (f"alice connects\n{ASK.format('leave')}{GOT}", "the server ended with status 3"),
    "an error in the log": (f"alice connects\n{ASK.format('complain')}{GOT}", "failed: the server's end", "complaint", "server log may have"),
    "a call that takes long": (f"alice connects\n{ASK.format('sleep')}{GOT}", "kept the router for", "server log may have"),
    "a variable that is not there": ("alice connects\nalice sends <iq id='${NOTHING_SUCH}'/>\n", "${NOTHING_SUCH} stands for nothing"),
    "an option from a variable that is not there": ("server starts\nmodule option word = ${NOTHING_SUCH}\n", "no variable NOTHING_SUCH in the environment"),
}


@pytest.mark.parametrize("name", FAILS)
def test_what_does_not_hold_fails_and_says_so(play, name):
    text, *said = FAILS[name]
    bad(play(text), *said)


def test_a_report_of_a_sanitizer_fails_even_if_the_server_ends_well(play):
    # What the runtime writes goes to the log of the server.
    bad(play("server starts\nshell echo 'x.c:1:2: runtime error: shift' >>$DIR/log\n"), "the server's log has: x.c:1:2: runtime error: shift")


def test_a_server_under_valgrind_is_served_as_well(play):
    with open(program("startalkd"), "rb") as file:
        sanitized = b"__asan_init" in (text := file.read()) or b"__tsan_init" in text
    if sanitized or not shutil.which("valgrind"):
        pytest.skip("no valgrind here, or a build that it cannot run")
    good(play(f"alice connects\n{ASK.format('')}{GOT}", "--wrap", "valgrind -q --error-exitcode=9"))


def test_the_command_in_front_decides_the_status(play):
    bad(play("alice connects\n", "--wrap", "sh -c '\"$@\"; exit 7' sh"), "the server ended with status 7")
    good(play("alice connects\nserver reloads\n", "--wrap", "env A=b"))


# ---- what cannot be understood ----

@pytest.mark.parametrize("text, said", [
    ("alice dances\n", "'alice' does not know 'dances'; an actor connects, disconnects, sends, receives, is refused, is disconnected"),
    ("alcie connects\n", "there is no user 'alcie'"),
    ("server sleeps\n", "'sleeps' is nothing that the server does: starts, stops, restarts, reloads"),
    ("server log is\n", 'has "TEXT", has no "TEXT", may have "TEXT"'),
    ("wait long\n", "'long' is no length of time"),
    ("user carol\n", "write: user NAME password PASSWORD"),
    ("user carol password \"x\n", "the quote is not closed"),
    ("module option word\n", "write: module option KEY = VALUE"),
    ("with\n", "expected names of modules"),
    ("file a/b\n", "write: file NAME"),
    ("shell\n", "write: shell COMMAND"),
    ("alice sends\n", "expected a stanza"),
    ("alice sends <iq>\n", "the stanza: "),
    ("alice sends <stream:end/>\n", "no iq, message or presence"),
    ("alice receives nothing now\n", "'now' is too much here"),
    ("alice is disconnected with x\n", "'x' is no code"),
    ("server reloads with x\n", "write: server reloads with"),
    ("alice connects\n   more\n", "indented lines"),
])
def test_what_cannot_be_understood_names_file_and_line(play, text, said):
    played = play("\n" + text)
    assert played.status == 2 and played.out == ""
    assert re.search(rf"a\.play:4: .*{re.escape(said)}", played.err), played.err


def test_an_indented_line_without_one_above_is_refused(play):
    played = play("  alice connects\n", head="")
    assert played.status == 2 and "a.play:1: an indented line belongs to the one above it" in played.err


def test_wrong_usage_is_refused(play, clumsy, tmp_path):
    for arguments in ([], [clumsy], [tmp_path / "none.so", "-"], ["--timeout", "x", clumsy, "-"], ["--no-such"], [clumsy, tmp_path / "none"],
                      ["--startalkd", tmp_path / "none", clumsy, "-"]):
        done = subprocess.run([program("startalk-module-test"), *arguments], capture_output=True, text=True, input="", timeout=60)
        assert done.returncode == 2 and done.stdout == "" and "startalk-module-test: " in done.stderr or "unrecognized" in done.stderr


# ---- output ----

def test_tap_numbers_every_step_and_skips_behind_a_failure(play):
    played = play("alice connects\nalice receives nothing for 1ms\n", "--tap")
    assert played.status == 0 and played.out.startswith("TAP version 13\n1..5\nok 1 - ")
    assert re.findall(r"^ok (\d) ", played.out, re.M) == list("12345")
    played = play(f"alice connects\n{ASK.format('talk')}alice receives nothing\nwait 1ms\n", "--tap")
    assert played.status == 1 and played.err == "" and "1..7\n" in played.out
    assert re.findall(r"^(not ok|ok) (\d)", played.out, re.M) == [("ok", "1"), ("ok", "2"), ("ok", "3"), ("ok", "4"), ("not ok", "5"), ("ok", "6"), ("ok", "7")]
    assert re.search(r"^ok 6 .*# SKIP", played.out, re.M) and re.search(r"^#   came: ", played.out, re.M)


def test_prove_understands_it(play, clumsy, tmp_path):
    if not shutil.which("prove"):
        pytest.skip("no prove here")
    (tmp_path / "b.play").write_text(USERS + "alice connects\n", encoding="utf-8")
    done = subprocess.run(["prove", "-e", f"{program('startalk-module-test')} --tap {clumsy}", tmp_path / "b.play"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "All tests successful" in done.stdout, done.stdout + done.stderr


def test_the_folder_is_kept_when_that_is_asked_for(play, tmp_path):
    played = play("alice connects\n", "--keep", "--verbose")
    folder = tmp_path / "tmp" / played.left[0]
    assert f"kept in {folder}" in played.out and sorted(os.listdir(folder)) == ["log", "modules", "startalkd.conf", "state"]
    assert "alice >> <presence>" in played.out and "alice << <iq " in played.out


def test_several_modules_and_scripts_in_one_run(clumsy, tmp_path):
    (tmp_path / "a.play").write_text(USERS + "alice connects\n", encoding="utf-8")
    (tmp_path / "b.play").write_text(USERS + "alice connects\nbob is refused\n", encoding="utf-8")
    plugin.build(tmp_path, "witness.c")
    done = subprocess.run([program("startalk-module-test"), clumsy, tmp_path / "witness.so", tmp_path / "a.play", tmp_path / "b.play"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "a.play: ok" in done.stdout and "b.play:4: failed: bob is refused" in done.stderr


def test_an_interrupted_run_leaves_nothing_behind(clumsy, tmp_path):
    (tmp_path / "a.play").write_text("server starts\nwait 60s\n", encoding="utf-8")
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen([program("startalk-module-test"), "--verbose", clumsy, tmp_path / "a.play"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")})
    for line in process.stdout:
        if "wait 60s" in line:
            break
    pid = int(re.search(r"pid (\d+)", next((tmp_path / "tmp").glob("*/log")).read_text()).group(1))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "interrupted" in err and os.listdir(tmp_path / "tmp") == []
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")
