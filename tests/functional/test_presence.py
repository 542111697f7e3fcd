# SPDX-License-Identifier: MIT
"""Presence and notices."""
import json
import re

import pytest
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


def test_notices_of_any_category_that_is_not_reserved_reach_bare_and_full_jids(server, connect):
    alice = connect(server).login()
    one, two = connect(server, "bob").login(resource=A), connect(server, "bob").login(resource=B)
    one.expect_notice(9)
    for category in (0, 2, 6, 8, 12, 13, 14, 15, 16, 12345, -1):
        alice.notify(category, f"to all {category}", "bob@example.org")
        for client in (one, two):
            frame = client.expect_notice(category)
            assert frame.inner.body.value == f"to all {category}"
            assert frame.inner.definedKey == 7 and frame.sender == alice.jid
    alice.notify(7, "to one", two.jid)
    assert two.expect_notice(7).inner.body.value == "to one"
    one.quiet()


RESERVED = (1, 3, 4, 9, 10, 11, 98, 99, 100)


def test_strangers_may_not_log_a_user_out_or_speak_for_the_server(server, connect):
    alice, bob = connect(server).login(), connect(server, "bob").login()
    for category in RESERVED:
        for to in ("bob@example.org", bob.jid, "BOB@example.org"):
            alice.notify(category, "go away", to)
    assert alice.ping().inner.value == "ping"
    bob.quiet()
    assert re.search(rf"presence_notices_refused\s+{len(RESERVED) * 3}\b", server.ctl("metrics").stdout)
    alice.notify(7, "hello", "bob@example.org")
    assert bob.expect_notice(7).inner.body.value == "hello"


def test_reserved_categories_come_from_the_operator_from_named_users_and_from_oneself(make_server, connect):
    server = make_server(plugins={"30-presence": "[presence]\nreserved-categories = 55, 100\nreserved-senders = Bob@example.org\n"})
    alice, bob = connect(server).login(), connect(server, "bob").login()
    alice.notify(55, "no", "bob@example.org")
    alice.notify(98, "not listed", "bob@example.org")
    assert bob.expect_notice(98)
    alice.notify(100, "mine")
    assert alice.expect_notice(100)
    alice.notify(100, "mine", "Alice@example.org")
    assert alice.expect_notice(100)
    bob.notify(100, "named", "alice@example.org")
    assert alice.expect_notice(100).inner.body.value == "named"
    assert server.ctl("notify", "--category", "100", "bob").returncode == 0
    assert bob.expect_notice(100).inner.body.value == ""
    bob.quiet()


@pytest.mark.parametrize("line, fault", [("reserved-categories = 1, x", "reserved-categories: 'x' is no number"),
                                         ("reserved-senders = example.org", "reserved-senders: 'example.org' is no bare JID")])
def test_rules_that_make_no_sense_are_told(make_server, line, fault):
    done = make_server(start=False, plugins={"30-presence": f"[presence]\n{line}\n"}).run("--plan")
    assert done.returncode != 0 and fault in done.stderr


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


# ---- sharing ----

@pytest.fixture
def share(make_server):
    """share("domain"): a server whose users share their presence so."""
    def make(how, more="", **kwargs):
        plugins = {"30-presence": f"[presence]\nshare = {how}\n{more}", "20-bind": "[bind]\nsessions-per-user = 0"}
        return make_server(plugins=plugins, **kwargs)
    return make


def says(client, show, priority="5"):
    """The client says a show; the server has dealt with it when this returns."""
    client.status(show, priority)
    return told(client)


def told(client):
    """The shows that the client has been told since it last looked, as [(who, show)]."""
    shows = []
    client.send(wire.IQ, pb.IQMessage(key="PING", definedKey=50, messageId="now"), client.jid)
    while True:
        frame = client.next()
        if frame.signal == wire.IQ and frame.inner.messageId == "now":
            return shows
        if frame.signal == wire.PRESENCE and frame.inner.value == "update_user_status":
            assert frame.to == client.jid and frame.inner.definedKey == 6
            shows.append((frame.sender, dict(frame.headers())["show"]))


def next_told(client):
    """Waits for the next show that the client is told."""
    frame = client.expect(wire.PRESENCE, where=lambda frame: frame.inner.value == "update_user_status")
    return frame.sender, dict(frame.headers())["show"]


def ask(client, whom):
    """Asks for a user's presence: {jid: (show, priority)}, or the error's code."""
    answer = client.iq(namespace="startalk:presence", key="query", to=whom).inner
    if answer.definedKey == 90:
        return next(header.value for header in answer.body.headers if header.definedKey == 42)
    assert (answer.definedKey, answer.namespace, answer.value) == (80, "startalk:presence", "query")
    sessions = {}
    for each in answer.bodys:
        assert each.value == "session"
        fields = {header.definedKey or header.key: header.value for header in each.headers}
        sessions[fields[7]] = (fields.get("show"), fields["priority"])
    return sessions


def test_domain_each_status_reaches_everybody_once(share, connect):
    server = share("domain")
    alice, bob = connect(server).login(resource=A), connect(server, "bob").login(resource=A)
    phone = connect(server).login(resource=B)
    assert says(alice, "away") == [(alice.jid, "away")]
    assert told(phone) == told(bob) == [(alice.jid, "away")]
    assert says(bob, "busy") == [(bob.jid, "busy")]
    assert told(alice) == told(phone) == [(bob.jid, "busy")]
    alice.priority("3")
    assert told(alice) == told(bob) == []  # no show, no news


def test_domain_who_comes_is_told_the_others_shows(share, connect):
    server = share("domain", users={"alice": "a", "bob": "b", "carol": "c"})
    alice, silent = connect(server).login(resource=A), connect(server, "bob").login()
    says(alice, "dnd")
    bob = connect(server, "carol").login(available=False)
    assert told(bob) == []  # bound is not available yet
    bob.priority()
    assert told(bob) == [(alice.jid, "dnd")]
    phone = connect(server).login(resource=B)
    assert told(phone) == [(alice.jid, "dnd")]
    says(phone, "away", "-1")
    assert told(silent)[-1] == (phone.jid, "away")
    again = connect(server).login(resource="c_c")
    assert told(again) == [(alice.jid, "dnd"), (phone.jid, "away")]


def test_domain_offline_is_told_when_the_last_session_goes(share, connect):
    server = share("domain")
    pc, phone, bob = connect(server).login(resource=A), connect(server).login(resource=B), connect(server, "bob").login()
    says(phone, "online")
    says(pc, "away")
    assert told(bob) == [(phone.jid, "online"), (pc.jid, "away")]
    pc.close()
    assert next_told(bob) == (phone.jid, "online")  # anew: "away" must not stand
    phone.close()
    assert next_told(bob) == (phone.jid, "offline")
    late = connect(server).login(resource=A)
    assert told(late) == [] and told(bob) == []  # nothing was said yet, nothing old is told
    assert says(late, "busy") == [(late.jid, "busy")]
    assert told(bob) == [(late.jid, "busy")]


def test_domain_a_session_that_is_ended_is_gone_for_the_others(share, connect):
    server = share("domain")
    bob = connect(server, "bob").login()
    first = connect(server).login()
    says(first, "away")
    assert told(bob) == [(first.jid, "away")]
    second = connect(server).login()  # the same full JID: the first one is replaced
    first.expect_end(222)
    assert told(bob) == [(first.jid, "offline")]
    says(second, "online")
    assert told(bob) == [(second.jid, "online")]


def test_domain_other_domains_hear_nothing_and_may_ask(share, connect):
    server = share("domain", domain="example.org, example.net", users={"alice": "a"})
    server.sql("INSERT INTO users (username, domain, password) VALUES ('eve', 'example.net', 'e')")
    alice, eve = connect(server, domain="example.org").login(), connect(server, "eve", domain="example.net").login("e")
    says(alice, "away")
    assert told(eve) == []
    assert ask(eve, "alice@example.org") == {alice.jid: ("away", "5")}
    says(alice, "busy")
    assert told(eve) == [(alice.jid, "busy")]


def test_asked_nothing_is_told_before_and_everything_after(share, connect):
    server = share("asked")
    alice, bob = connect(server).login(resource=A), connect(server, "bob").login()
    says(alice, "away", "3")
    assert told(bob) == []
    assert ask(bob, "Alice@Example.org") == ask(bob, "alice@example.org") == {alice.jid: ("away", "3")}
    says(alice, "busy")
    assert told(bob) == [(alice.jid, "busy")]  # once, though asked twice
    phone = connect(server).login(resource=B)
    says(phone, "online")
    assert told(bob) == [(phone.jid, "online")]
    assert ask(bob, "alice@example.org") == {alice.jid: ("busy", "5"), phone.jid: ("online", "5")}
    alice.close()
    assert next_told(bob) == (phone.jid, "online")
    phone.close()
    assert next_told(bob) == (phone.jid, "offline")
    assert ask(bob, "alice@example.org") == {}
    says(bob, "x")
    assert says(connect(server).login(resource=A), "back") and told(bob) == [(alice.jid, "back")]


def test_asked_ends_with_the_session_that_asked(share, connect):
    server = share("asked")
    alice, one = connect(server).login(), connect(server, "bob").login(resource=A)
    assert ask(one, "alice@example.org") == {alice.jid: (None, "5")}
    one.close()
    server.wait_log("session: bob@example.org/.*: ")
    other = connect(server, "bob").login(resource=A)  # the same full JID, another session
    says(alice, "away")
    assert told(other) == []


def test_nobody_is_the_default_and_asking_is_forbidden_but_for_the_own_account(server, connect):
    alice, bob = connect(server).login(resource=A), connect(server, "bob").login()
    says(alice, "away")
    assert told(bob) == []
    assert ask(bob, "alice@example.org") == "403"
    phone = connect(server).login(resource=B)
    assert ask(phone, "alice@example.org") == ask(phone, None) == {alice.jid: ("away", "5"), phone.jid: (None, "5")}


def test_asking_makes_sense_for_users_only_and_has_a_limit(share, connect):
    server = share("asked", "asks-per-session = 2", users={name: name for name in ("alice", "bob", "carol", "dave")})
    alice = connect(server).login()
    assert ask(alice, "example.org") == "400" and ask(alice, "nobody@example.org") == "404" and ask(alice, "bob@elsewhere.net") == "404"
    assert ask(alice, alice.jid) == "400"
    assert ask(alice, "bob@example.org") == ask(alice, "carol@example.org") == {}
    assert ask(alice, "alice@example.org") == {alice.jid: (None, "5")}
    assert ask(alice, "dave@example.org") == "500" and ask(alice, "bob@example.org") == {}
    says(connect(server, "dave").login(), "away")
    assert told(alice) == []


def test_domain_many_sessions_are_all_told_the_latest_in_the_end(share, connect):
    """More than is told in one go, while users come, speak and go."""
    users = {f"user{i}": "p" for i in range(10)}
    server = share("domain", users=users)
    speakers = [connect(server, name).login(resource="one", tls=False) for name in users]
    others = [connect(server, name).login(resource=f"r{i}", tls=False) for name in list(users)[1:] for i in range(29)]
    for i, client in enumerate(speakers):
        for show in range(5):
            client.status(f"{i}-{show}")
    speakers[0].close()  # its user's only session
    last = {client.jid: f"{i}-4" for i, client in enumerate(speakers)}
    last[speakers[0].jid] = "offline"
    for client in speakers[1:] + others:
        seen = {}
        while seen != last:
            who, show = next_told(client)
            seen[who] = show
    late = connect(server, "user0").login(resource="late", tls=False)
    del last[speakers[0].jid]
    heard = dict(next_told(late) for _ in last)
    assert heard == last and told(late) == []


def test_domain_users_who_come_and_go_are_told_each_time(share, connect):
    users = {f"user{i}": "p" for i in range(45)}
    server = share("domain", users={"bob": "b", **users})
    bob = connect(server, "bob").login()
    for _ in range(2):
        for name in users:
            client = connect(server, name).login(resource="r", tls=False)
            client.status("here")
            assert next_told(bob) == (client.jid, "here")
            client.close()
            assert next_told(bob) == (client.jid, "offline")
    assert told(bob) == []
    assert told(connect(server, "user1").login(resource=A)) == []
