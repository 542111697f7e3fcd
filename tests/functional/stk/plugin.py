# SPDX-License-Identifier: MIT
"""Modules that a test builds for itself, and a folder in which the server finds them beside its own."""
import os
import subprocess

from .server import BUILD
from .wire import ROOT

SOURCES = os.path.join(ROOT, "tests", "functional", "plugins")
BAD = os.path.join(ROOT, "tests", "badmod")


def build(folder, source, compiler=("cc", "-std=c17"), sources=SOURCES):
    """Builds SOURCES/SOURCE against the headers alone, as FOLDER/NAME.so."""
    name = os.path.splitext(os.path.basename(source))[0]
    os.makedirs(folder, exist_ok=True)
    command = [*compiler, "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fPIC", "-shared",
               "-I", os.path.join(ROOT, "core", "include"), os.path.join(sources, source), "-o", os.path.join(folder, f"{name}.so")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def modules_dir(folder, *sources, bad=()):
    """A folder with the modules of this build and those built from SOURCES and, of tests/badmod, BAD; returns the line of [server] that names it."""
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(os.path.join(BUILD, "modules")):
        module = os.path.join(BUILD, "modules", name, f"{name}.so")
        if os.path.exists(module):
            os.symlink(module, os.path.join(folder, f"{name}.so"))
    for source in sources:
        build(folder, source)
    for name in bad:
        build(folder, f"{name}.c", sources=BAD)
    return f"modules-dir = {folder}"
