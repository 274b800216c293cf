"""Opens a summary page in Chromium, in light and in dark, and prints what is wrong with it as one line of JSON.

Wrong is what the browser complains of on its console, what the page fetches, and a picture without the colours that were asked for.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib

page, scratch = sys.argv[1:3]
# What Chromium asks for itself, whatever page is open.
OWN = ("accounts.google.com", "clients2.google.com", "update.googleapis.com")
# How Chromium numbers what people prefer.
SCHEMES = {"dark": 0, "light": 1}


def opened(scheme):
    """The picture of the page, what stands on the console, and the addresses that were asked for."""
    folder = os.path.join(scratch, scheme)
    picture, asked = folder + ".png", folder + ".json"
    options = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
        "--disable-sync --disable-extensions --window-size=1200,2400 --enable-logging=stderr"
    ).split()
    options += [
        f"--user-data-dir={folder}",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--log-net-log={asked}",
        f"--screenshot={picture}",
    ]
    run = subprocess.run(["chromium", *options, "file://" + os.path.abspath(page)], capture_output=True, text=True, timeout=120)
    console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    with open(asked, encoding="utf-8") as log:
        events = json.load(log)["events"]
    parameters = [event.get("params") for event in events]
    addresses = {each["url"] for each in parameters if isinstance(each, dict) and "url" in each}
    return picture, console, addresses


def brightness(picture):
    """How bright the upper left corner is, from 0 to 255: whatever the filter of the first row, its first pixel is as it is."""
    data = open(picture, "rb").read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", "no picture"
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += length + 12
    return sum(zlib.decompress(packed)[1:4]) // 3


def problems():
    if shutil.which("chromium") is None:
        return ["cannot be opened: there is no browser; `apt install chromium`"]
    found, shades = [], {}
    for scheme in SCHEMES:
        picture, console, addresses = opened(scheme)
        found += [f"makes the browser complain: {line}" for line in console]
        others = [each for each in addresses if not each.startswith("file:") and each.split("/")[2] not in OWN]
        found += [f"fetches {address}" for address in sorted(others)]
        shades[scheme] = brightness(picture)
    if not (shades["dark"] < 80 and shades["light"] > 175):
        found.append(f"has a background of {shades}, from 0 (black) to 255")
    return found


print(json.dumps(problems()))
