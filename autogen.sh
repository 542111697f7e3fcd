#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes ./configure from configure.ac. Needs autoconf, automake and pkg-config (./install-deps installs them).
set -e
cd "$(dirname "$0")"
autoreconf --force --install --warnings=all
# At its end configure removes core dumps, and would complain that core/ is a folder.
sed 's/rm -f core /rm -f /' configure >configure.new
chmod +x configure.new
mv configure.new configure
