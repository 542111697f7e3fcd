# SPDX-License-Identifier: MIT
"""A small file system that can be filled."""
import contextlib
import os
import subprocess


class NoDisk(Exception):
    """Neither root nor user namespaces: says why."""


class SmallDisk:
    """A tmpfs at FOLDER: a mount where that is allowed, else one in a user namespace that a process of ours keeps. inside: what to run
    programs under that are to see it; real: its path for everybody else."""

    def __init__(self, folder, size):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.inside, self.real, self.keeper = folder, [], folder, None
        options = f"size={size},mode=700"
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if mount.returncode == 0:
            return
        self.keeper = subprocess.Popen(["unshare", "-Urm", "sh", "-c", 'mount -t tmpfs -o "$1" tmpfs "$2" && echo ready && exec cat', "sh",
                                        options, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.keeper.stdout.readline() != "ready\n":
            raise NoDisk(f"{mount.stderr.strip()}; {self.keeper.communicate()[1].strip()}")
        self.inside = ["nsenter", "--preserve-credentials", "-U", "-m", "-t", str(self.keeper.pid)]
        self.real = f"/proc/{self.keeper.pid}/root{folder}"

    def path(self, name):
        return os.path.join(self.real, name)

    def fill(self):
        """Not a byte more fits. May be called again when something was freed."""
        with open(self.path("ballast"), "ab", buffering=0) as file:
            for size in (65536, 4096):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def empty(self):
        """Room again."""
        os.unlink(self.path("ballast"))

    def close(self):
        if not self.keeper:
            subprocess.run(["umount", "-l", self.folder], check=True)
            return
        self.keeper.communicate()
