#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tells how late the machine lets a process run that is ready: it sleeps for 10 ms again and again, and prints when it should have woken up and
when it did, in seconds of the monotonic clock, where that is late. It ends with its standard input."""
import select
import sys
import time

EVERY = 0.01  # seconds
TOLD = 0.002


def main():
    while True:
        due = time.monotonic() + EVERY
        if select.select([sys.stdin], [], [], EVERY)[0]:
            return
        now = time.monotonic()
        if now > due + TOLD:
            print(f"{due:.6f} {now:.6f}")


if __name__ == "__main__":
    main()
