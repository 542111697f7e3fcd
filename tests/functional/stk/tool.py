# SPDX-License-Identifier: MIT
"""startalk-client, run to its end, at its leisure, or at a terminal."""
import fcntl
import os
import select
import subprocess
import termios
import time

import pytest

from .server import BAD, program

TOOL = program("startalk-client")
ENVIRONMENT = {**os.environ, "TZ": "UTC"}
RESOURCE = r"V\[\d+\]_P\[LINUX\]_ID\[[0-9a-f]{32}\]_C\[1\]_PB"


def write(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


class Run:
    """One run of the tool, to its end."""

    def __init__(self, command, text=None):
        done = subprocess.run(command, input=text.encode() if isinstance(text, str) else text, capture_output=True,
                              stdin=None if text is not None else subprocess.DEVNULL, timeout=60, check=False, env=ENVIRONMENT)
        self.raw = done.stdout
        self.out, self.err, self.status = done.stdout.decode(), done.stderr.decode(), done.returncode
        assert not BAD.search(self.err), self.err


def read_ready(fd, deadline):
    """What there is to read, "" at the end; waits for it."""
    ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
    assert ready, "nothing came in time"
    try:
        return os.read(fd, 65536).decode(errors="replace")
    except OSError:  # what the end of a terminal is
        return ""


class Script:
    """One run of the tool that is told what to do line by line."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=ENVIRONMENT)
        self.out, self.at, self.err = "", 0, ""

    def send(self, *lines):
        self.process.stdin.write("".join(line + "\n" for line in lines).encode())
        self.process.stdin.flush()

    def read_line(self, deadline):
        while "\n" not in self.out[self.at:]:
            data = read_ready(self.process.stdout.fileno(), deadline)
            assert data, f"it ended: {self.out}\n{self.process.communicate()[1].decode()}"
            self.out += data
        start, self.at = self.at, self.out.index("\n", self.at) + 1
        return self.out[start:self.at]

    def read_until(self, wanted, timeout=20):
        """Reads lines up to the one that has what is wanted, and returns that one."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self.read_line(deadline)
            except AssertionError as error:
                raise AssertionError(f"no {wanted!r} in:\n{self.out}") from error
            if wanted in line:
                return line

    def end(self):
        """Closes its input and waits; returns the exit status."""
        out, err = self.process.communicate(timeout=30)
        self.out += out.decode()
        self.err = err.decode()
        assert not BAD.search(self.err), self.err
        return self.process.returncode


@pytest.fixture
def tool(tmp_path):
    """tool(server, ...): runs startalk-client as alice; keywords: user, password, domain, host, port, text. tool.arguments(...): the
    command line; tool.script(...): a Script; tool.also(server, "bob", ...): the options for one more account."""

    def password_file(server, user, password=None):
        return write(tmp_path / f"{user}.password", (server.passwords[user] if password is None else password) + "\n")

    def arguments(server, *args, user="alice", password=None, domain="example.org", host="127.0.0.1", port=None):
        file = password_file(server, user, password)
        return [TOOL, f"{user}@{domain}", "--host", host, "--port", str(port or server.port), "--password-file", file, *args]

    def also(server, user, *args, name=None, password=None):
        jid = f"{user}@example.org" if name is None else f"{name}={user}@example.org"
        return ["--as", jid, "--password-file", password_file(server, user, password), *args]

    def run(server, *args, text=None, **kwargs):
        return Run(arguments(server, *args, **kwargs), text)

    scripts = []

    def script(server, *args, **kwargs):
        scripts.append(Script(arguments(server, *args, **kwargs)))
        return scripts[-1]

    run.arguments, run.also, run.script = arguments, also, script
    yield run
    for each in scripts:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()


class Terminal:
    """The tool on a pseudo-terminal of its own."""

    def __init__(self, command):
        self.master, slave = os.openpty()
        self.text = ""
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)

    def read_until(self, wanted, timeout=20):
        deadline = time.monotonic() + timeout
        while wanted not in self.text:
            try:
                data = read_ready(self.master, deadline)
                assert data, "it ended"
            except AssertionError as error:
                raise AssertionError(f"no {wanted!r} in {self.text!r}") from error
            self.text += data
        before, _, self.text = self.text.partition(wanted)
        return before

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self):
        status = self.process.wait(20)
        os.close(self.master)
        return status
