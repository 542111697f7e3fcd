# SPDX-License-Identifier: MIT
"""The server of a chaos run: that of tests/bench/run, with what it tells of itself: memory, descriptors, sessions."""
import argparse
import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RELOAD_BOUND = 60
EMPTY_BOUND = 60  # seconds until the last session is gone, behind the last client
BAD = re.compile(r"ERROR: AddressSanitizer|ERROR: LeakSanitizer|runtime error:|ThreadSanitizer|Assertion|: crashed ")
SETTINGS = {  # shorter and smaller than usual, so that they are met
    "listen.tls": "required", "limits.max-send-queue": "256 KiB", "limits.idle-timeout": "60s", "login.stream-timeout": "15s",
    "login.auth-timeout": "15s", "login.bind-timeout": "15s", "archive.durability": "full",
    "limits.stanza-rate": "1000", "limits.byte-rate": "4 MiB", "auth_sqlite.plain-without-tls": "off",
}


def load_bench():
    """tests/bench/run is a script without an ending."""
    loader = importlib.machinery.SourceFileLoader("bench_run", os.path.join(TOP, "tests", "bench", "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_run", loader))
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = written
    return module


bench = load_bench()


class Server(bench.Server):
    domain, password = bench.DOMAIN, bench.PASSWORD

    def __init__(self, build, users, io_threads):
        settings = [f"{key}={value}" for key, value in {**SETTINGS, "server.io-threads": io_threads}.items()]
        super().__init__(argparse.Namespace(build=build, users=users, iterations=4096, without=(), set=settings, server_cpu=-1))
        self.text, self.lock = "", threading.Lock()

    # ---- files ----

    def file(self, name):
        """In the state directory."""
        return os.path.join(self.state, name)

    def _plugin(self, name):
        return os.path.join(self.folder, "plugins.d", f"{name}.conf")

    def read_plugin(self, name):
        with open(self._plugin(name), encoding="utf-8") as file:
            return file.read()

    def write_plugin(self, name, text):
        """As a whole; None: it goes."""
        if text is None:
            if os.path.exists(self._plugin(name)):
                os.unlink(self._plugin(name))
            return
        with open(self._plugin(name) + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(self._plugin(name) + ".new", self._plugin(name))

    # ---- what it says ----

    def listen(self):
        """Takes what it logged."""
        with self.lock:
            self.text += self.drain()

    def reload(self):
        """Returns the last line that it logs of it."""
        self.listen()
        since, until = len(self.text), time.monotonic() + RELOAD_BOUND
        self.process.send_signal(bench.signal.SIGHUP)
        while time.monotonic() < until and self.process.poll() is None:
            self.listen()
            if match := re.search(r"^.*reload: (done|refused).*\n", self.text[since:], re.M):
                return match.group().rstrip()
            time.sleep(0.005)
        return "no answer"

    def status(self):
        done = subprocess.run([os.path.join(self.options.build, "startalkctl"), "-c", self.conf, "--json", "status"],
                              capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"startalkctl status: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def files(self):
        """What its descriptors are, without the numbers that change."""
        folder = f"/proc/{self.process.pid}/fd"
        found = []
        for name in os.listdir(folder):
            try:
                found.append(re.sub(r"\[\d+\]$", "", os.readlink(os.path.join(folder, name))))
            except FileNotFoundError:
                continue
        return sorted(found)

    def figures(self, settle):
        """When the last client has gone: waits until the server has seen it, and a while for what it does then."""
        until = time.monotonic() + EMPTY_BOUND
        while (status := self.status())["sessions"] + status["connections"] > 0 and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(settle)
        files = self.files()
        return {"sessions": status["sessions"], "connections": status["connections"], "rss": self.rss(), "fds": len(files), "files": files}

    def processor(self):
        """Seconds that it has taken."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_sanitized(self):
        with open(self.program, "rb") as file:
            text = file.read()
        return b"__asan_init" in text or b"__tsan_init" in text

    def end(self):
        """Stops it; returns its exit status."""
        reader = self.process.stderr
        self.process.send_signal(bench.signal.SIGTERM)
        until = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < until:
            self.listen()
            time.sleep(0.02)
        self.text += (reader.read() or b"").decode(errors="replace")
        return self.process.poll()
