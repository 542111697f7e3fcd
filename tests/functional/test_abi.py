# SPDX-License-Identifier: MIT
"""The check of what modules that are built already rely on: tests/abi/abi.py, on headers in which something was changed."""
import functools
import os
import shutil
import subprocess
import sys

import pytest
from stk import wire
from stk.server import program

sys.path.insert(0, os.path.join(wire.ROOT, "tests", "abi"))
import abi  # noqa: E402

INCLUDE = os.path.join(wire.ROOT, "core", "include")


@functools.cache
def described():
    return abi.describe(INCLUDE, "cc")


def check(tmp_path, changes):
    """Runs the check on headers with [(file, old text, new text)], against a record of those that are there."""
    include, record = tmp_path / "include", tmp_path / "abi"
    abi.write_record(record, described())
    shutil.copytree(INCLUDE, include)
    for name, old, new in changes:
        path = include / "startalkd" / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
        path.write_text(text.replace(old, new), encoding="utf-8")
    return subprocess.run([sys.executable, abi.__file__, "check", "--include", include, "--record", record], capture_output=True, text=True, timeout=120)


def test_the_headers_are_as_recorded():
    record = abi.read_record(os.path.join(os.path.dirname(abi.__file__), "startalkd.abi"))
    said, bad = abi.advise(record, now := described(), *abi.compare(record, now))
    assert not bad, "\n".join(said)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_record_does_not_depend_on_the_compiler(compiler):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} here")
    assert abi.describe(INCLUDE, compiler) == described()


def test_nothing_changed_is_no_difference(tmp_path):
    done = check(tmp_path, [])
    assert (done.returncode, done.stdout) == (0, "abi: as recorded\n"), done


@pytest.mark.parametrize("change", [
    ("module.h", "int64_t stk_now_ms(void); /*", "int64_t stk_now_ms(void ); /* now: "),
    ("module.h", "int stk_send(struct stk_module *module, struct stk_stanza *stanza);", "int stk_send(struct stk_module *from,\n\tstruct stk_stanza *what);"),
])
def test_comments_spaces_and_names_of_parameters_do_not_matter(tmp_path, change):
    done = check(tmp_path, [change])
    assert done.returncode == 0, done.stdout


ADDITIONS = {
    "a function": [("module.h", "void *stk_data(", "int stk_new_thing(struct stk_module *module);\nvoid *stk_data(")],
    "a field at the end of a struct that says its size": [("service.h", "struct stk_users {", "struct stk_new {\n\tuint32_t size;\n};\nstruct stk_users {"),
                                                          ("module.h", "const struct stk_audit *audit; /* STK_AUDIT */",
                                                           "const struct stk_audit *audit;\n\tconst char *more;")],
    "a field of what was reserved": [("module.h", "void *reserved[4];", "int (*ready)(struct stk_module *module);\n\tvoid *reserved[3];")],
    "an option's field, whose table says its stride": [("module.h", "const char *const *names; /* ENUM: NULL-terminated */",
                                                        "const char *const *names;\n\tconst char *unit;")],
    "a hook": [("module.h", "STK_HOOKS ", "STK_NEW_HOOK, STK_HOOKS ")],
    "a struct, an enum, a macro": [("session.h", "struct stk_session;\n",
                                    "struct stk_session;\nstruct stk_new { int one; };\nenum stk_more { STK_ONE };\n#define STK_FIVE 5\n")],
}


@pytest.mark.parametrize("name", ADDITIONS)
def test_an_addition_fails_until_it_is_recorded_and_is_told_as_one(tmp_path, name):
    done = check(tmp_path, ADDITIONS[name])
    assert done.returncode == 1 and "addition" in done.stdout and "BREAK" not in done.stdout, done.stdout
    assert "set STK_ABI_MINOR to 1" in done.stdout and 'run "make record-abi"' in done.stdout


BREAKS = {
    "a field in the middle": [("module.h", "enum stk_hook hook;\n", "int more;\n\tenum stk_hook hook;\n")],
    "a field of another type": [("module.h", "unsigned count;      /* how often", "float count;      /* how often")],
    "a function pointer of another type": [("service.h", "bool (*exists)(struct stk_module *module, const char *bare);",
                                            "bool (*exists)(struct stk_module *module, const char *bare, int how);")],
    "a function that is gone": [("module.h", "int64_t stk_now_ms(void);", "")],
    "a parameter more": [("module.h", "void *stk_data(struct stk_module *module);", "void *stk_data(struct stk_module *module, int which);")],
    "another result": [("module.h", "bool stk_planning(", "int stk_planning(")],
    "an enumerator before others": [("module.h", "enum stk_verdict {\n", "enum stk_verdict {\n\tSTK_NO,\n")],
    "another value of a macro": [("jid.h", "STK_JID_PART_MAX 1023", "STK_JID_PART_MAX 511")],
    "a field at the end of a struct that does not say its size": [("jid.h", "size_t node_len, domain_len, resource_len;",
                                                                   "size_t node_len, domain_len, resource_len, len;")],
    "a type of callbacks": [("module.h", "typedef void stk_timer_fn(struct stk_module *module, void *arg);",
                             "typedef int stk_timer_fn(struct stk_module *module, void *arg);")],
    "more than was reserved": [("module.h", "void *reserved[4];", "void *more[5];")],
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_is_told_as_one(tmp_path, name):
    done = check(tmp_path, BREAKS[name])
    assert done.returncode == 1 and "  BREAK  " in done.stdout, done.stdout
    assert "set STK_ABI_MAJOR to 2" in done.stdout


def test_another_number_alone_wants_a_new_record(tmp_path):
    done = check(tmp_path, [("module.h", "#define STK_ABI_MINOR 0", "#define STK_ABI_MINOR 1")])
    assert done.returncode == 1 and "they say 1.1" in done.stdout and 'run "make record-abi"' in done.stdout


def test_the_daemon_exports_each_function_of_the_headers_and_nothing_else():
    names = abi.exported(program("startalkd"))
    if names & {"__asan_init", "__tsan_init"}:
        pytest.skip("a sanitizer exports symbols of its own")
    assert names == set(abi.Headers(INCLUDE).functions)
