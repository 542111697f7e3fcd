#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs the installed server with this module on a free port of this machine, logs a user in, and asks for a greeting.
# WRAPPER may hold a command to run the server under.
set -eu
PKG_CONFIG=${PKG_CONFIG:-pkg-config}
moduledir=$($PKG_CONFIG --variable=moduledir startalkd)
sbindir=$($PKG_CONFIG --variable=sbindir startalkd)
bindir=$($PKG_CONFIG --variable=bindir startalkd)
dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$dir"' EXIT

# The server's modules and this one, in one folder.
mkdir "$dir/modules"
ln -s "$moduledir"/*.so "$dir/modules"
ln -sf "$PWD/hello.so" "$dir/modules/hello.so"
cat >"$dir/startalkd.conf" <<EOF
[server]
domains = example.org
state-dir = state
modules-dir = modules
[listen]
port = 0
[auth_sqlite]
[bind]
[presence]
[hello]
greeting = Good day
EOF

${WRAPPER-} "$sbindir/startalkd" -c "$dir/startalkd.conf" 2>"$dir/log" &
server=$!
until grep -q 'server: ready' "$dir/log"; do
	kill -0 "$server" || { cat "$dir/log"; exit 1; }
	sleep 0.1
done
port=$(sed -n 's/.*listen: 127.0.0.1:\([0-9]*\):.*/\1/p' "$dir/log")

echo "alice's password" >"$dir/password"
sqlite3 -cmd '.timeout 10000' "$dir/state/startalk.db" \
	"INSERT INTO users (username, password) VALUES ('alice', 'alice''s password')"
"$bindir/startalk-client" alice@example.org --host 127.0.0.1 --port "$port" --password-file "$dir/password" \
	-c '/iq get urn:example:hello' >"$dir/answer" || { cat "$dir/answer" "$dir/log"; exit 1; }
grep -F '>Good day, alice@example.org</query>' "$dir/answer" || { cat "$dir/answer"; exit 1; }

kill "$server"
wait "$server" || { cat "$dir/log"; exit 1; }
server=
echo 'hello: ok'
