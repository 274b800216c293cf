"""Reads pages of a dump with drgn: page frames come a line each, their content goes into a file."""

import sys

with open(sys.argv[1], "wb") as file:
    for line in sys.stdin:
        file.write(prog.read(int(line) << 12, 1 << 12, physical=True))  # noqa: F821 (drgn provides prog)
