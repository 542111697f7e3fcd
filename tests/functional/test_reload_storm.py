# SPDX-License-Identifier: MIT
"""Modules come, go and change at random under sessions that chat: nothing may be lost, and memory must not grow. The usual length is short;
STK_RELOADS=1000 STK_RELOAD_PAIRS=100 is the long one (200 sessions)."""
import os
import random
import signal
import subprocess
import time

import pytest
from stk import plugin
from stk.server import program

RELOADS = int(os.environ.get("STK_RELOADS", "60"))
PAIRS = int(os.environ.get("STK_RELOAD_PAIRS", "15"))
RATE = 5 * PAIRS  # messages a second
GROWTH_MAX = 2048  # KiB, from the first third of the reloads to their end

# file -> what may stand in it; None: no file
CHOICES = {
    "15-echo": (None, "[echo]\nword = one", "[echo]\nword = two"),
    "25-witness": (None, "[witness]"),
    "26-room": (None, "[room]"),
    "27-loopback": (None, "[loopback]"),
    "28-riddle": (None, "[riddle]"),
    "30-presence": (None, "[presence]", "[presence]\nnavversion = 7"),
    "36-message": ("[message]", "[message]\ncopies = note", "[message]\ndeliver-to = highest"),
    "35-archive": (None, "[archive]", "[archive]\nrevoke-window = 60s"),
    "40-ping": (None, "[ping]"),
    "50-admin": (None, "keep"),
}


def rss(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def is_sanitized():
    with open(program("startalkd"), "rb") as file:
        text = file.read()
    return b"__asan_init" in text or b"__tsan_init" in text


def reload(server, number):
    since = len(server.lines)
    server.signal(signal.SIGHUP)
    line = server.wait_log("reload: (done|refused)", 30, since)
    assert line.endswith("reload: done"), f"reload {number}: " + "\n".join(server.lines[since:])


def settle(server):
    """Waits for modules that are still on their way out, so that it is not them what is measured."""
    time.sleep(0.3)
    return rss(server.process.pid)


def wait_all_bound(server):
    deadline = time.monotonic() + 60
    while sum(": bound (" in line for line in server.lines) < 2 * PAIRS:
        assert time.monotonic() < deadline, server.lines[-20:]
        time.sleep(0.05)
    time.sleep(0.5)  # their first presence


def change_at_random(server, dice, admin):
    changed = dice.sample(sorted(CHOICES), dice.randint(1, 4))
    for name in changed:
        text = dice.choice(CHOICES[name])
        server.plugin(name, admin if text == "keep" else text)


def test_a_module_that_comes_and_goes_forty_times_finds_everything_free_each_time(make_server, connect, tmp_path):
    where = plugin.modules_dir(str(tmp_path / "modules"), "echo.c")
    server = make_server(server=where)
    alice = connect(server).login()
    for number in range(40):
        server.plugin("15-echo", "[echo]")
        reload(server, number)
        server.plugin("15-echo", None)
        reload(server, number)
    assert alice.ping().inner.value == "ping"


@pytest.mark.skipif(is_sanitized(), reason="sanitizers keep what is freed")
def test_a_module_that_takes_new_options_again_and_again_keeps_nothing_of_the_old(make_server):
    server = make_server()
    memory = []
    for number in range(600):
        server.plugin("36-message", CHOICES["36-message"][number % 3])
        reload(server, number)
        if number in (199, 599):
            memory.append(settle(server))
    assert memory[1] - memory[0] < 200, memory  # 270 KiB when each kept its options


@pytest.fixture
def stormy(make_server, tmp_path):
    where = plugin.modules_dir(str(tmp_path / "modules"), "witness.c", "room.c", "loopback.c", "riddle.c", "echo.c")
    users = {f"u{number:05}": "bench" for number in range(2 * PAIRS)}
    server = make_server(server=where, users=users, conf="", plugins={"10-auth_sqlite": "[auth_sqlite]\nplain-without-tls = on\n"})
    return server


def start_chat(server, seconds):
    command = [program("tests/bench/startalk-bench"), "chat", "--port", server.port, "--users", 2 * PAIRS, "--pairs", PAIRS, "--rate", RATE,
               "--warmup", 0.5, "--seconds", seconds, "--limit", seconds + 120, "--tls", "starttls"]
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_nothing_is_lost_and_nothing_grows_while_modules_come_and_go_at_random(stormy):
    server, seed = stormy, int(os.environ.get("STK_SEED", random.randrange(1 << 30)))
    dice = random.Random(seed)
    print(f"seed {seed}")
    with open(server.path("plugins.d", "50-admin.conf"), encoding="utf-8") as file:
        admin = file.read()
    pause = 0.05 if RELOADS < 500 else 0.03
    chat = start_chat(server, max(4, RELOADS * pause * 1.5))
    wait_all_bound(server)
    first, done = None, 0
    try:
        while done < RELOADS:
            change_at_random(server, dice, admin)
            reload(server, done)
            done += 1
            if done == RELOADS // 3:
                first = settle(server)
            time.sleep(pause)
        assert chat.poll() is None or chat.returncode == 0, chat.communicate()
        last = settle(server)
        out, err = chat.communicate(timeout=300)
    finally:
        if chat.poll() is None:
            chat.kill()
            chat.wait()
    print(f"{done} reloads, memory {first} -> {last} KiB\n{out[:2000]}")
    assert chat.returncode == 0, out + err
    assert is_sanitized() or last - first < GROWTH_MAX, f"memory grew from {first} to {last} KiB in {done - done // 3} reloads"
