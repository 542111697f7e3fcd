# SPDX-License-Identifier: MIT
"""A real startalkd in a folder of its own."""
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading

from .wire import ROOT

BUILD = os.path.abspath(os.environ.get("STK_BUILDDIR", ROOT))
PLUGINS = ("10-auth_sqlite", "20-bind", "30-presence", "35-archive", "36-message", "40-ping", "50-admin")
IO_THREADS = os.environ.get("STK_IO_THREADS", "0")
SOCKET_PATH_MAX = 107
PATIENCE = 6 if os.environ.get("STK_WRAPPER") else 1  # how much longer what the server does may take
BAD = re.compile(r"ERROR: AddressSanitizer|ERROR: LeakSanitizer|runtime error:|ThreadSanitizer|definitely lost: [1-9]|Assertion")


def program(name):
    return os.path.join(BUILD, name)


class Server:
    """conf: text that is added to startalkd.conf; listen, login: the bodies of these sections; plugins: name -> text of a file
    (None: left out); fast: failed logins are answered soon."""

    def __init__(self, folder, domain="example.org", conf="", listen="", login="", limits="", server="", plugins=None, fast=True, users=True):
        self.folder, self.domain = str(folder), domain
        self.passwords = {}
        self.env = {}  # on top of the test's own
        self.startalkd = program("startalkd")
        self.args = []  # of startalkd, beside -c
        self.inside = []  # a command that takes programs to where the state directory is seen
        self.process, self.port, self.ports, self.lines = None, None, [], []
        os.makedirs(self.path("plugins.d"), exist_ok=True)
        for name in PLUGINS:
            module = name.split("-")[1]
            shutil.copy(os.path.join(ROOT, "modules", module, f"{module}.conf"), self.path("plugins.d", f"{name}.conf"))
        if len(os.path.abspath(self.path("state", "admin.sock"))) > SOCKET_PATH_MAX and "50-admin" not in (plugins or {}):
            self.plugin("50-admin", f"[admin]\nsocket = {tempfile.mkdtemp(prefix='stk')}/admin.sock\n")
        for name, text in (plugins or {}).items():
            self.plugin(name, text)
        if fast and "failure-delay" not in login:
            login += "\nfailure-delay = 20ms\nfailure-delay-max = 20ms"
        with open(self.path("startalkd.conf"), "w", encoding="utf-8") as file:
            file.write(f"[server]\ndomains = {domain}\nstate-dir = state\nplugins-dir = plugins.d\n"
                       f"{server}\n{'' if 'io-threads' in server else f'io-threads = {IO_THREADS}'}\n"
                       f"[listen]\nport = 0\n{listen}\n[log]\nlevel = debug\n[login]\n{login}\n[limits]\n{limits}\n{conf}\n")
        self.wanted = {"alice": "alice's pw", "bob": "bob's pw"} if users is True else users or {}

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def plugin(self, name, text):
        path = self.path("plugins.d", f"{name}.conf")
        if text is None and os.path.exists(path):
            os.unlink(path)
        elif text is None:
            return
        else:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)

    def run(self, *args):
        """startalkd with arguments, to its end."""
        return subprocess.run([*self.inside, self.startalkd, "-c", self.path("startalkd.conf"), *args], capture_output=True, text=True, timeout=60)

    def start(self):
        command = self.inside + shlex.split(os.environ.get("STK_WRAPPER", "")) + [self.startalkd, "-c", self.path("startalkd.conf"), *self.args]
        self.port, self.ports, self.lines = None, [], []
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, errors="replace",
                                        env={**os.environ, **self.env})
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self.thread.start()
        self.wait_log("server: ready", 60)
        self.port = self.ports[0]
        for user, password in self.wanted.items():
            self.sql("INSERT INTO users (username, password) VALUES (?, ?)", user, password)
            self.passwords[user] = password
        self.wanted = {}
        return self

    def _read(self, process):
        for line in process.stderr:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                match = re.search(r"listen: \S*:(\d+): tls", line)
                if match:
                    self.ports.append(int(match.group(1)))
                self.changed.notify_all()
        with self.changed:
            self.lines.append("(end of log)")
            self.changed.notify_all()

    def wait_log(self, pattern, timeout=10, since=0):
        """Waits for a log line; returns it."""
        def find():
            return next((line for line in self.lines[since:] if re.search(pattern, line)), None)
        with self.changed:
            self.changed.wait_for(lambda: find() or self.lines[-1:] == ["(end of log)"], timeout * PATIENCE)
            line = find()
        assert line, f"no log line {pattern!r} in:\n" + "\n".join(self.lines)
        return line

    def sql(self, statement, *values):
        """Runs SQL with the sqlite3 command, as an operator would."""
        quoted = statement
        for value in values:
            quoted = quoted.replace("?", "'" + value.replace("'", "''") + "'", 1)
        done = subprocess.run([*self.inside, "sqlite3", "-cmd", ".timeout 5000", self.path("state", "startalk.db"), quoted], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def ctl(self, *args, input=None):
        """startalkctl with arguments, to its end; input: what its standard input is."""
        return subprocess.run([program("startalkctl"), "-c", self.path("startalkd.conf"), *args], input=input or "", capture_output=True,
                              text=True, timeout=60)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """SIGKILL. start() starts it anew, on another port."""
        self.process.kill()
        status = self.process.wait(20)
        self.thread.join(5)
        self.process = None
        log = "\n".join(self.lines)
        assert status == -signal.SIGKILL, f"it had ended before, with status {status}; log:\n{log}"
        assert not BAD.search(log), log

    def stop(self):
        """SIGTERM; the exit must be clean and the log without a sanitizer's report."""
        if not self.process:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(20 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = "none: it had to be killed"
        self.thread.join(5)
        self.process = None
        log = "\n".join(self.lines)
        assert status == 0, f"exit status {status}; log:\n{log}"
        assert not BAD.search(log), log
