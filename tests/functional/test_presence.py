# SPDX-License-Identifier: MIT
"""Presence and notices."""
import json

from stk import plugin, wire
from stk.wire import pb

A, B = "V[1]_P[PC64]_ID[a]_C[1]_PB", "V[1]_P[Android]_ID[b]_C[1]_PB"


def platforms(notice):
    return sorted(json.loads(notice.inner.body.value))


def test_the_navigation_version_is_a_setting(make_server, connect):
    server = make_server(plugins={"30-presence": '[presence]\nnavversion = "1\\2"'})
    client = connect(server)
    client.welcome()
    client.auth(client.rsa(server.passwords["alice"]))
    client.bind()
    assert json.loads(client.expect_notice(3).inner.body.value) == {"navversion": "1\\2"}


def test_all_devices_are_told_who_is_online_when_one_comes_and_goes(server, connect):
    one = connect(server).login(resource=A)
    two = connect(server)
    two.login(resource=B, available=False)
    one.quiet()  # bound is not available yet
    two.priority()
    assert platforms(one.expect_notice(9)) == platforms(two.expect_notice(9)) == ["P[Android]", "P[PC64]"]
    two.close()
    notice = one.expect_notice(9)
    assert platforms(notice) == ["P[PC64]"] and (notice.sender, notice.to) == ("alice@example.org", one.jid)
    one.quiet()


def test_a_resource_without_underscore_is_left_out(server, connect):
    plain = connect(server).login(resource="simple")
    assert platforms(plain.expect_notice(9)) == []
    connect(server).login(resource=A)
    assert platforms(plain.expect_notice(9)) == ["P[PC64]"]


def test_priority_alone_has_no_frame_and_show_reaches_all_own_devices(server, connect):
    one, two = connect(server).login(resource=A), connect(server).login(resource=B)
    one.expect_notice(9)
    two.quiet()
    one.status("away", "3")
    for client in (one, two):
        frame = client.expect(wire.PRESENCE)
        assert frame.inner.value == "update_user_status" and frame.inner.definedKey == 6 and frame.inner.key == "result"
        assert (frame.sender, frame.to) == (one.jid, client.jid)
        assert frame.headers() == [("show", "away"), ("priority", "3")]
        assert frame.inner.body.value == "user_update_status"
        client.quiet()


def test_other_users_hear_nothing_of_it(server, connect):
    bob = connect(server, "bob").login()
    connect(server).login().status("away")
    bob.quiet()


def test_a_priority_out_of_range_is_ignored_and_harms_nothing(server, connect):
    client = connect(server).login(resource=A)
    for priority in ("128", "-129", "x", "5x", "99999999999999999999"):
        client.priority(priority)
    assert client.ping().inner.value == "ping"
    client.quiet()


def test_notices_of_any_category_reach_bare_and_full_jids(server, connect):
    alice = connect(server).login()
    one, two = connect(server, "bob").login(resource=A), connect(server, "bob").login(resource=B)
    one.expect_notice(9)
    for category in (1, 4, 6, 8, 11, 12, 13, 14, 98, 99, 100, 12345):
        alice.notify(category, f"to all {category}", "bob@example.org")
        for client in (one, two):
            frame = client.expect_notice(category)
            assert frame.inner.body.value == f"to all {category}"
            assert frame.inner.definedKey == 7 and frame.sender == alice.jid
    alice.notify(7, "to one", two.jid)
    assert two.expect_notice(7).inner.body.value == "to one"
    one.quiet()


def test_a_notice_without_to_goes_to_the_own_devices(server, connect):
    one, two = connect(server).login(resource=A), connect(server).login(resource=B)
    one.expect_notice(9)
    one.notify(2, "mine")
    assert one.expect_notice(2).inner.body.value == two.expect_notice(2).inner.body.value == "mine"


def test_a_notice_to_nobody_or_to_a_bad_jid_is_dropped(server, connect):
    alice = connect(server).login()
    for to in ("nobody@example.org", "bob@example.org/nowhere", "bob@elsewhere.net", "a@b@c"):
        alice.notify(7, "x", to)
    assert alice.ping().inner.value == "ping"
    alice.quiet()


def test_text_of_any_script_passes_unchanged(server, connect):
    alice, bob = connect(server).login(), connect(server, "bob").login()
    text = "héllo 世界 🎉 さくら \u202e <&>'\" \n\t"
    alice.notify(7, text, "bob@example.org")
    assert bob.expect_notice(7).inner.body.value == text
    alice.notify(7, text * 1000, "bob@example.org")
    assert bob.expect_notice(7).inner.body.value == text * 1000


def test_unknown_presences_mean_nothing(server, connect):
    alice = connect(server).login()
    alice.send(wire.PRESENCE, pb.PresenceMessage(key="verify_friend", definedKey=2), alice.jid, "bob@example.org")
    assert alice.ping().inner.value == "ping"


def test_eligible_is_told_when_messages_to_the_bare_jid_may_come(tmp_path, make_server, connect):
    """Available with a priority of 0 or above, which it was not before."""
    server = make_server(server=plugin.modules_dir(tmp_path / "modules", "witness.c"), conf="[witness]")
    client = connect(server).login(resource="r", available=False)
    for priority in ("-1", "-5", "0", "7", "-2", "128", "3"):
        client.priority(priority)
    client.ping()
    client.priority("4")
    other = connect(server).login(resource="other")
    server.wait_log("witness: other: eligible")
    assert [line.split("witness: ")[1] for line in server.lines if "witness: r:" in line] == [
        "r: available, priority -1",
        "r: eligible, priority 0",
        "r: eligible, priority 3",
    ]
    assert [line.split("witness: ")[1] for line in server.lines if "witness: other:" in line] == [
        "other: available, priority 5",
        "other: eligible, priority 5",
    ]
    assert other.ping()
