# SPDX-License-Identifier: MIT
"""Jobs of the server's own modules that hang in a file, as on a disk that does not answer, and are written off: what waited for them goes on."""
import os
import signal
import subprocess

import pytest
from stk import wire
from stk.server import program
from test_admin import ok
from test_admin import wait_for as until
from test_archive import A1, B1, BOB, chats, history, rows, send_all
from test_audit import entries, wait_for
from test_reload import reload

HANG = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* While the folder of STK_HANG has a file that is called as the one of FD, without -wal, the first thread but the main one that comes by takes
 * that one and hangs until it is gone. */
static void hang(int fd)
{
	char link[64], path[4096], asked[8192], taken[8200];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t len = gettid() == getpid() ? -1 : readlink(link, path, sizeof(path) - 1);
	if (len <= 0) {
		return;
	}
	path[len > 4 && memcmp(path + len - 4, "-wal", 4) == 0 ? len - 4 : len] = '\0';
	const char *name = strrchr(path, '/');
	snprintf(asked, sizeof(asked), "%s%s", getenv("STK_HANG"), name ? name : "/none");
	snprintf(taken, sizeof(taken), "%s.taken", asked);
	if (rename(asked, taken) == 0) {
		while (access(taken, F_OK) == 0) {
			usleep(5000);
		}
	}
}

ssize_t pread64(int fd, void *out, size_t size, off_t at)
{
	hang(fd);
	return syscall(SYS_pread64, fd, out, size, at);
}

ssize_t write(int fd, const void *data, size_t size)
{
	hang(fd);
	return syscall(SYS_write, fd, data, size);
}
"""


class Disk:
    def __init__(self, folder):
        os.makedirs(folder)
        self.folder = folder

    def hang(self, name):
        """The next thread that reads or writes this file hangs."""
        with open(os.path.join(self.folder, name), "wb"):
            pass

    def wait_taken(self, name):
        until(lambda: os.path.exists(os.path.join(self.folder, name + ".taken")))

    def go_on(self, name):
        os.unlink(os.path.join(self.folder, name + ".taken"))


@pytest.fixture
def slow(make_server, tmp_path):
    """slow(...): a server that gives jobs half a second, and the disk that it hangs in."""
    def make(**kwargs):
        server = make_server(start=False, limits="job-time-limit = 500ms", **kwargs)
        with open(server.startalkd, "rb") as file:
            code = file.read()
        if b"__asan_init" in code or b"__tsan_init" in code:
            pytest.skip("a sanitizer takes these functions itself")
        disk, source, library = Disk(tmp_path / "hang"), tmp_path / "hang.c", tmp_path / "hang.so"
        source.write_text(HANG)
        subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
        server.env = {"LD_PRELOAD": str(library), "STK_HANG": str(disk.folder)}
        return server.start(), disk
    return make


def wait_written_off(server, module):
    server.wait_log(rf"module: {module}: a job has not ended in \d+\.\d s and is written off")


def go_on(server, disk, name, module):
    disk.go_on(name)
    server.wait_log(f"module: {module}: a job that was written off has ended after all")


def test_the_user_table_is_looked_at_again(slow, connect):
    server, disk = slow()
    bob = connect(server, "bob").login()
    disk.hang("startalk.db")
    server.sql("UPDATE users SET enabled = 0 WHERE username = 'bob'")
    disk.wait_taken("startalk.db")
    wait_written_off(server, "auth_sqlite")
    server.wait_log("users: bob@example.org: disabled")
    bob.expect_end(201)
    go_on(server, disk, "startalk.db", "auth_sqlite")


def test_a_login_whose_check_hangs_is_refused_and_others_log_in(slow, connect):
    server, disk = slow(plugins={"10-auth_sqlite": "[auth_sqlite]\npoll-interval = 1500ms"})
    alice = connect(server)
    alice.welcome()
    alice.starttls()
    until(lambda: server.sql("SELECT count(*) FROM users WHERE length(password) < 40") == "0")  # the server writes no more
    server.sql("INSERT INTO users (username, enabled) VALUES ('carol', 1)")
    server.wait_log("users: carol@example.org: new")  # the next look is in more than a second
    disk.hang("startalk.db")
    server.sql("UPDATE users SET enabled = 0 WHERE username = 'carol'")  # pages have to be read anew
    alice.auth(alice.rsa("alice's pw"))
    wait_written_off(server, "auth_sqlite")
    server.wait_log("alice@example.org.*the check of the password hangs")
    connect(server, "bob").login()
    go_on(server, disk, "startalk.db", "auth_sqlite")
    connect(server).login()


def test_what_waits_for_a_user_comes_though_its_reading_was_written_off(slow, connect):
    server, disk = slow()
    alice = connect(server).login(resource=A1)
    sent = send_all(alice, BOB, "abc")
    disk.hang("archive.db")
    bob = connect(server, "bob").login(resource=B1)
    wait_written_off(server, "archive")
    assert [frame.inner.messageId for frame in chats(bob, 3)] == sent
    sent = send_all(alice, BOB, "d")
    assert bob.expect(wire.CHAT).inner.messageId == sent[0]
    go_on(server, disk, "archive.db", "archive")
    bob.ping()
    bob.quiet(0.2)


def test_a_history_that_hangs_is_answered_and_the_next_one_comes(slow, connect):
    server, disk = slow()
    alice = connect(server).login(resource=A1)
    send_all(alice, BOB, "a")
    disk.hang("archive.db")
    assert history(alice)[1] is None
    wait_written_off(server, "archive")
    assert len(history(alice)[1]) == 1
    go_on(server, disk, "archive.db", "archive")


@pytest.mark.parametrize("command", ["status", "vacuum", "export"])
def test_commands_of_the_archive_end_and_work_again(slow, connect, command):
    server, disk = slow(plugins={"35-archive": "[archive]\nkeep-rows = 1"})
    send_all(connect(server).login(resource=A1), BOB, "abc")
    words = ["archive", command] + (["bob"] if command == "export" else [])
    disk.hang("archive.db")
    done = server.ctl(*words)
    assert done.returncode == 1 and "a job that hangs was written off" in done.stderr, done
    wait_written_off(server, "archive")
    assert ok(server.ctl(*words)).strip()
    go_on(server, disk, "archive.db", "archive")
    if command == "vacuum":
        assert rows(server, "SELECT count(*) FROM messages") == [["1"]]


def test_a_module_goes_without_its_command_that_hangs(slow, connect):
    server, disk = slow()
    send_all(connect(server).login(resource=A1), BOB, "a")
    disk.hang("archive.db")
    asking = subprocess.Popen([program("startalkctl"), "-c", server.path("startalkd.conf"), "archive", "export", "bob"], stderr=subprocess.PIPE,
                              text=True)
    disk.wait_taken("archive.db")
    server.plugin("35-archive", None)
    reload(server)
    assert "the module archive is going away" in asking.communicate(timeout=20)[1]
    go_on(server, disk, "archive.db", "archive")
    server.plugin("35-archive", "[archive]")
    reload(server)
    assert len(ok(server.ctl("archive", "export", "bob")).splitlines()) == 1


def test_the_audit_log_goes_on_in_a_file_that_is_opened_anew(slow, connect):
    server, disk = slow(plugins={"60-audit": "[audit]\n"})
    log = server.path("state", "audit.log")
    wait_for(log, event="start")
    disk.hang("audit.log")
    connect(server).login().close()
    server.wait_log("audit: .*audit.log: writing hangs: 1 lines count as lost, the file is opened anew in 30 s")
    os.rename(log, log + ".1")
    server.signal(signal.SIGUSR1)
    assert wait_for(log, event="lost")[0]["count"] == 1
    connect(server, "bob").login()
    wait_for(log, event="login", user="bob@example.org")
    go_on(server, disk, "audit.log", "audit")
    server.stop()
    assert entries(log)[-1]["event"] == "stop"
