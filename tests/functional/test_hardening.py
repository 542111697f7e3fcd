# SPDX-License-Identifier: MIT
"""What the compiler was asked for really is in the programs and modules, as readelf sees them."""
import glob
import os
import re
import subprocess

import pytest
from stk import example
from stk.server import BUILD, program

PROGRAMS = ("startalkd", "startalk-client", "startalkctl", "startalk-frame")
MODULES = sorted(os.path.relpath(path, BUILD) for path in glob.glob(os.path.join(BUILD, "modules", "*", "*.so")))
# Functions that always become others, which do not take %n from writable memory. (Those that fill a buffer do so only where the
# compiler cannot see that all is well.)
ALWAYS = {"printf", "fprintf", "vprintf", "vfprintf", "syslog", "vsyslog"}


def readelf(path, *args):
    return subprocess.run(["readelf", "-W", *args, program(path)], capture_output=True, text=True, errors="replace", check=True).stdout


def imports(path):
    return set(re.findall(r"UND ([\w]+)", readelf(path, "--dyn-syms")))


@pytest.fixture(autouse=True, scope="module")
def as_it_is_shipped():
    if example.is_sanitized() or "-O0" in flags("CFLAGS") or "__asan" in str(imports("startalkd")) or "__tsan_init" in imports("startalkd"):
        pytest.skip("a build for tests")


def flags(variable):
    with open(os.path.join(BUILD, "Makefile"), encoding="utf-8") as file:
        return re.search(rf"^{variable} = (.*)$", file.read(), re.M).group(1)


def test_there_are_modules_to_look_at():
    assert len(MODULES) >= 7


@pytest.mark.parametrize("path", PROGRAMS)
def test_programs_are_loaded_anywhere(path):
    assert re.search(r"Type: +DYN", readelf(path, "-h")) and re.search(r"FLAGS_1\).*\bPIE\b", readelf(path, "-d"))


@pytest.mark.parametrize("path", (*PROGRAMS, *MODULES))
def test_nothing_is_writable_and_executable_and_all_that_is_resolved_is_read_only(path):
    segments, dynamic = readelf(path, "-l"), readelf(path, "-d")
    stack = re.search(r"GNU_STACK.*0x\w+ (R.[ E])", segments)
    assert stack and "E" not in stack.group(1)
    assert not re.search(r"LOAD .*RWE", segments)
    assert "GNU_RELRO" in segments and re.search(r"FLAGS\).*BIND_NOW|FLAGS_1\).*NOW", dynamic)
    assert "TEXTREL" not in dynamic and "RPATH" not in dynamic and "RUNPATH" not in dynamic


@pytest.mark.parametrize("path", (*PROGRAMS, *MODULES))
def test_formats_are_checked(path):
    assert not imports(path) & ALWAYS


def test_where_the_size_is_known_only_at_run_time_copies_are_checked():
    assert {"__memcpy_chk", "__memset_chk"} & imports("startalkd") and "__snprintf_chk" in imports("startalkd")


def test_the_level_of_these_checks_is_the_highest_that_the_compiler_has():
    assert "-D_FORTIFY_SOURCE=3" in flags("STK_HARDEN")


@pytest.mark.parametrize("path", PROGRAMS)
def test_stacks_are_guarded(path):
    assert "__stack_chk_fail" in imports(path)


def test_every_unit_was_compiled_with_guards_on_stack_and_jumps():
    """Debian's own start-up objects are without marks for CET, so that the linker leaves it out of the whole: the objects tell."""
    objects = [path for folder in ("core", "proto", "tools", "modules/*") for path in glob.glob(os.path.join(BUILD, folder, "*.o"))]
    assert len(objects) > 60
    for path in objects:
        if os.uname().machine == "x86_64":
            assert re.search(r"x86 feature: .*IBT.*SHSTK", readelf(path, "-n")), path
        producer = re.findall(r"GNU C17 .*", readelf(path, "-p.debug_str"))
        for line in producer:  # clang does not say
            assert "-fstack-protector-strong" in line and "-fstack-clash-protection" in line, path
