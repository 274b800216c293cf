"""Reads pages of a dump with libkdumpfile: page frames come a line each, their content goes into a file."""

import sys

import kdumpfile

dump, returned = sys.argv[1:]
context = kdumpfile.kdumpfile(dump)
with open(returned, "wb") as file:
    for line in sys.stdin:
        file.write(context.read(kdumpfile.KDUMP_MACHPHYSADDR, int(line) << 12, 1 << 12))
