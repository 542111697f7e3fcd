# SPDX-License-Identifier: MIT
"""The examples of plugins.d, built by their own Makefiles, and an HTTP server that some of them talk to."""
import http.server
import os
import shutil
import ssl
import subprocess
import threading
import time

import pytest

from . import plugin
from .server import program
from .wire import ROOT

LIBRARIES = {"auth_http": "libcurl", "webhook": "libcurl"}
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all"


def is_sanitized():
    done = subprocess.run(["nm", "-D", program("startalkd")], capture_output=True, text=True, check=True)
    return "__asan_init" in done.stdout


def has_library(name):
    """Is there what the example NAME needs and the server does not?"""
    return subprocess.run(["pkg-config", "--exists", LIBRARIES[name]], timeout=20).returncode == 0


def modules_dir(folder, name):
    """A folder with the modules of this build and the example NAME; returns the line of [server] that names it."""
    if name in LIBRARIES and not has_library(name):
        pytest.skip(f"no {LIBRARIES[name]} here")
    sources = shutil.copytree(os.path.join(ROOT, "plugins.d"), os.path.join(folder, "plugins.d"))
    with open(os.path.join(folder, "startalkd.pc"), "w", encoding="utf-8") as file:
        file.write(f"moduledir=/nowhere\nplugindir=/nowhere\nName: startalkd\nDescription: this tree\nVersion: 0\n"
                   f"Cflags: -I{ROOT}/core/include\n")
    sanitized = is_sanitized()
    flags = "-g -O1 -Wall -Wextra -Wpedantic -Werror" + (f" {SANITIZERS}" if sanitized else "")
    command = ["make", "-C", os.path.join(sources, name), f"CC={'clang' if sanitized else 'cc'}", f"CFLAGS={flags}"]
    env = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**env, "PKG_CONFIG_PATH": str(folder)})
    assert done.returncode == 0, done.stdout + done.stderr
    line = plugin.modules_dir(os.path.join(folder, "modules"))
    shutil.move(os.path.join(sources, name, f"{name}.so"), os.path.join(folder, "modules", f"{name}.so"))
    return line


class Web:
    """An HTTP server on this machine. ANSWER(request) is called for each POST with path, headers and body in it, and
    returns a status and a text, or a status, a text and headers. requests: all that came; connections: how many there were."""

    def __init__(self, answer, port=0, certificate=None):
        web = self
        self.requests, self.connections, self.changed = [], 0, threading.Condition()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                with web.changed:
                    web.connections += 1

            def do_POST(self):
                self.body = self.rfile.read(int(self.headers["Content-Length"]))
                with web.changed:
                    web.requests.append(self)
                    web.changed.notify_all()
                status, text, *headers = answer(self)
                try:
                    self.send_response(status)
                    for key, value in (headers[0] if headers else {}).items():
                        self.send_header(key, value)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:
                    self.close_connection = True  # it did not wait

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *args: None  # a client that goes away is no fault here
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}/there"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def wait(self, count, timeout=15):
        """Until COUNT requests have come; returns them all."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= count, timeout), f"{len(self.requests)} requests"
            return list(self.requests)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def wait_until(true, timeout=15):
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
