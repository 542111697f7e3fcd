# SPDX-License-Identifier: MIT
"""Fixtures: see README.md."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from stk.client import Client  # noqa: E402
from stk.server import Server  # noqa: E402


@pytest.fixture
def make_server(tmp_path):
    """Makes and starts servers; all are stopped at the end, and must stop cleanly."""
    servers = []

    def make(start=True, **kwargs):
        server = Server(tmp_path / f"server{len(servers)}", **kwargs)
        servers.append(server)
        return server.start() if start else server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def server(make_server):
    """example.org with the users alice and bob."""
    return make_server()


@pytest.fixture
def connect():
    """connect(server, user): a client that is closed at the end."""
    clients = []

    def make(server, user="alice", **kwargs):
        clients.append(Client(server, user, **kwargs))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the logs of its servers."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and call.when == "call":
        for value in item.funcargs.values():
            if isinstance(value, Server):
                report.sections.append(("startalkd log", "\n".join(value.lines[-200:])))
