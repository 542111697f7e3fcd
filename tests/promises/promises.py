#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Takes away, one by one, what answers the complaints of doc/module-promises.md, and looks whether the tests fail without it.

    tests/promises/promises.py [NUMBER...]

works on a copy of the tree in a temporary folder. It takes some minutes, so ./check only looks whether what is to be taken away is still there.
"""
import collections
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
Break = collections.namedtuple("Break", "file old new test")
MODULE = "core/module.c"

COMPLAINTS = [
    "an upgrade of the server stops all plugins", "not binary compatible although the version is the same", "a newer module on an older server crashes",
    "the header cannot be used alone", "a crash after unload", "timers and hooks leak", "the error path of loading", "a reload half applies",
    "a plugin blocks the server", "time-out and completion race", "the order of modules changes their meaning", "two plugins with the same function",
    "an error of the configuration is accepted", "an event arrives twice", "no documentation for authors", "no reload and no upgrade in place",
]

BREAKS = {
    1: [Break(MODULE, "def->size < offsetof(struct stk_module_def, reserved)", "def->size != sizeof(*def)", "test_promises.py -k older")],
    2: [Break(MODULE, "built for module API %u.%u, this server has %d.%d; rebuild the module against \"\n",
              "is not binary compatible (%u.%u, %d.%d) \"\n", "test_badmod.py -k no_module_of_this_server")],
    3: [Break(MODULE, " || def->abi_minor > STK_ABI_MINOR", "", "test_badmod.py -k no_module_of_this_server"),
        Break(MODULE, "RTLD_NOW | RTLD_LOCAL", "RTLD_LAZY | RTLD_LOCAL", "test_badmod.py -k no_module_of_this_server")],
    4: [Break("core/include/startalkd/session.h", "#include <stdbool.h>\n", "", "test_headers.py")],
    5: [Break(MODULE, "		if (atomic_load(&module->under_way)) {\n			registry->closing = true;", "		if (false) {\n			registry->closing = true;",
              "test_badmod.py test_reload_storm.py -k 'unloaded_when_its_job or random'")],
    6: [Break(MODULE, "	free_slots(module->server, module);\n", "", "test_reload_storm.py -k forty")],
    7: [Break(MODULE, "	rc = rc < 0 ? rc : publish(&server->modules, module);\n	if (rc < 0) {",
              "	publish(&server->modules, module);\n	module->state = MODULE_LIVE;\n	if (rc < 0) {", "test_badmod.py -k 'half_way or fails'")],
    8: [Break("core/reload.c", "	if (reload.rc == 0 && !dry) {\n		reload.rc = swap_modules", "	if (reload.changes && !dry) {\n		reload.rc = swap_modules",
              "test_reload.py -k wrong")],
    9: [Break(MODULE, "#define SLOW_CALL 0.050", "#define SLOW_CALL 50.0", "test_badmod.py test_strain.py -k slow_callback"),
        Break("core/workers.c", "		pthread_mutex_unlock(&pool->lock);\n		crash_enter", "		crash_enter", "test_example_answerbot.py")],
    10: [Break("core/pending.c", "	pending->late = true;\n	module_log", "	module_log", "test_badmod.py -k too_late")],
    11: [Break(MODULE, "void module_sort_hooks(struct server *server)\n{\n", "void module_sort_hooks(struct server *server)\n{\n	if (server) {\n		return;\n	}\n",
               "test_promises.py -k hooks_run")],
    12: [Break(MODULE, "RTLD_NOW | RTLD_LOCAL", "RTLD_NOW | RTLD_GLOBAL", "test_badmod.py -k same_name")],
    13: [Break("core/conf.c", "unknown key", "key not used", "test_modules.py -k faults")],
    14: [Break(MODULE, "		int verdict = hook->fn(hook->module, event, hook->arg);\n",
               "		(void)hook->fn(hook->module, event, hook->arg);\n		int verdict = hook->fn(hook->module, event, hook->arg);\n",
               "test_module_life.py -k once")],
    15: [Break("doc/module-guide.md", "| has no symbol stk_module_def; define it with STK_MODULE() |", "| no symbol |", "test_install.py -k guide_explains")],
    16: [Break("core/server.c", "server->restart ? HANDOVER_MAX : 0", "0", "test_restart.py -k in_place")],
}


def run(command, where, **kwargs):
    return subprocess.run(command, cwd=where, shell=True, capture_output=True, text=True, check=False, **kwargs)


def test(build, words):
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    files, _, rest = words.partition(" -k ")
    paths = " ".join(f"../tests/functional/{name}" for name in files.split())
    which = f"-k {rest}" if rest else ""
    return run(f"STK_BUILDDIR={build} python3 -m pytest -p no:cacheprovider -q -x {paths} {which}", build, timeout=900,
               env={**env, "PATH": f"/usr/bin:{env['PATH']}"})


def try_one(tree, one):
    """What there is to say; empty: the test passes with, and fails without."""
    build, path = os.path.join(tree, "build"), os.path.join(tree, one.file)
    with open(path, encoding="utf-8") as file:
        whole = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(whole.replace(one.old, one.new))
    try:
        made = run("make -s -j2 CFLAGS='-g -O1 -Wno-error'", build)
        if made.returncode != 0:
            return f"it does not compile without: {made.stderr[-2000:]}"
        without = test(build, one.test)
    finally:
        with open(path, "w", encoding="utf-8") as file:
            file.write(whole)
        run("make -s -j2 CFLAGS='-g -O1 -Wno-error'", build)
    if without.returncode == 0 or " failed" not in without.stdout:
        return f"passes without: {without.stdout[-500:]}"
    with_it = test(build, one.test)
    return "" if with_it.returncode == 0 else f"fails with it, too: {with_it.stdout[-1500:]}"


def main():
    numbers = [int(word) for word in sys.argv[1:]] or sorted(BREAKS)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="startalkd-promises.") as folder:
        tree = os.path.join(folder, "tree")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "build", "asan", "tsan", "*.o", "*.a"))
        os.makedirs(os.path.join(tree, "build"))
        for command, where in (("./autogen.sh", tree), ("../configure -q", os.path.join(tree, "build")),
                               ("make -s -j2 CFLAGS='-g -O1' all check-programs", os.path.join(tree, "build"))):
            done = run(command, where)
            if done.returncode != 0:
                sys.exit(f"{command}: {done.stderr[-3000:]}")
        for number in numbers:
            for one in BREAKS[number]:
                fault = try_one(tree, one)
                failed += bool(fault)
                print(f"{number:2} {COMPLAINTS[number - 1]}: {fault or 'its test fails without our answer'} ({one.test})", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
