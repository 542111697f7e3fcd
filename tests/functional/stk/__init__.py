# SPDX-License-Identifier: MIT
"""A StarTalk client and a startalkd to test with, independent of the C code."""
