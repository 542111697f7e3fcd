# SPDX-License-Identifier: MIT
"""The headers that modules are written against."""
import os
import shutil
import subprocess

import pytest
from stk import plugin, wire
from stk.wire import ROOT, pb

INCLUDE = os.path.join(ROOT, "core", "include")
HEADERS = sorted(os.listdir(os.path.join(INCLUDE, "startalkd")))
COMPILERS = [("gcc", "c17"), ("g++", "c++17"), ("clang", "c17"), ("clang++", "c++17")]


@pytest.mark.parametrize("compiler, standard", COMPILERS)
@pytest.mark.parametrize("header", HEADERS)
def test_each_header_compiles_alone_and_twice(tmp_path, header, compiler, standard):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} here")
    source = tmp_path / ("source.cpp" if "++" in compiler else "source.c")
    source.write_text(f"#include <startalkd/{header}>\n#include <startalkd/{header}>\nextern int nothing;\n")
    done = subprocess.run([compiler, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", INCLUDE, "-c", source,
                           "-o", tmp_path / "source.o"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_a_module_can_be_written_in_cxx(tmp_path, make_server, connect, compiler):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} here")
    folder = tmp_path / "modules"
    server = make_server(server=plugin.modules_dir(folder), conf="[plusplus]\nanswer = as told", start=False)
    plugin.build(folder, "plusplus.cpp", compiler=(compiler, "-std=c++17"))
    client = connect(server.start()).login()
    answer = client.iq(namespace="urn:example:plusplus", key="query").inner
    assert (answer.definedKey, answer.namespace, answer.body.value) == (80, "urn:example:plusplus", "as told, 3 times")
    client.send(wire.PRESENCE, pb.PresenceMessage(key="priority", value="7", definedKey=1), client.jid)
    assert client.iq(namespace="urn:example:plusplus", key="query").inner.body.value == "as told, 5 times"
