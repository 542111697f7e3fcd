# SPDX-License-Identifier: MIT
"""The tree that "make install" makes, as somebody sees it who has nothing else."""
import os
import re
import subprocess

from .server import BUILD

NAMES = ("bindir", "sbindir", "docdir", "includedir", "moduledir", "plugindir", "datadir")


class Tree:
    """The installed tree whose startalkd.pc is in the folder $STK_INSTALLED; else one that is made in FOLDER. There, in_place is
    false: the server in it looks for its modules where it would be installed."""

    def __init__(self, folder):
        self.env = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "DESTDIR")}
        pkgconfig = os.environ.get("STK_INSTALLED")
        self.in_place = bool(pkgconfig)
        if not self.in_place:
            subprocess.run(["make", "-s", "-C", BUILD, "install", f"DESTDIR={folder}"], env=self.env, check=True, capture_output=True, timeout=300)
            pkgconfig = self._move(str(folder))
        self.env["PKG_CONFIG_PATH"] = pkgconfig
        for name in NAMES:
            setattr(self, name, self.variable(name))
        self.startalkd = os.path.join(self.sbindir, "startalkd")

    def _move(self, folder):
        """Says in startalkd.pc where everything is just now."""
        found = subprocess.run(["find", folder, "-name", "startalkd.pc"], capture_output=True, text=True, check=True).stdout.split()
        with open(found[0], encoding="utf-8") as file:
            text = file.read()
        with open(found[0], "w", encoding="utf-8") as file:
            file.write(re.sub(r"^(\w+)=/", rf"\1={folder}/", text, flags=re.M))
        return os.path.dirname(found[0])

    def pkg_config(self, *args):
        return subprocess.run(["pkg-config", *args, "startalkd"], env=self.env, capture_output=True, text=True, check=True).stdout.strip()

    def variable(self, name):
        return self.pkg_config(f"--variable={name}")

    def page(self, name, section):
        return os.path.join(self.datadir, "man", f"man{section}", f"{name}.{section}")

    def modules(self):
        """Those that have a page; not all have a template."""
        return sorted(name[:-3] for name in os.listdir(self.moduledir) if os.path.exists(os.path.join(self.docdir, f"{name[:-3]}.md")))

    def run(self, *command, cwd=None, timeout=300):
        done = subprocess.run(command, env=self.env, cwd=cwd, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout
