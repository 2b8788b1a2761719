#!/usr/bin/python3
"""Guests share a LUN: reservations, fencing, several paths, offload, authentication"""

import os
import pathlib
import subprocess
import sys
import time

from harness import LONG, Server, check, guest, guest_ended, guest_name, main, need_guest, own_network, palisade, scratch

MEET_SECONDS = 240


def meet(name):
    """Both guests get here before either goes on."""
    folder = pathlib.Path(os.environ["PALISADE_MEET"]) / name
    folder.mkdir(exist_ok=True)
    (folder / str(os.getpid())).touch()
    end = time.monotonic() + MEET_SECONDS
    while len(list(folder.iterdir())) < 2:
        if time.monotonic() > end:
            sys.exit(f"nobody else came to {name}")
        time.sleep(0.05)


def crash():
    """Has the suite kill the server and start it again."""
    wish = pathlib.Path(os.environ["PALISADE_MEET"]) / "crash"
    wish.touch()
    end = time.monotonic() + MEET_SECONDS
    while wish.exists():
        if time.monotonic() > end:
            sys.exit("the server did not come back")
        time.sleep(0.05)


def network(number, state):
    subprocess.run(["ip", "link", "set", f"lab{number}", state], check=True)


def hook(action, *arguments):
    """What a guest's `host ...` comes to."""
    actions = {
        "meet": meet,
        "crash": crash,
        "path-down": lambda n: network(n, "down"),
        "path-up": lambda n: network(n, "up"),
    }
    if action not in actions:
        sys.exit(f"no such action: {action}")
    actions[action](*arguments)


if sys.argv[1:2] == ["hook"]:
    hook(*sys.argv[2:])
    sys.exit(0)

own_network(4)
PORTALS = [f"10.77.{n}.1" for n in range(4)]
server = Server(host="10.77.0.1", port=3260)
HOOK = ["-H", f"{sys.executable} {os.path.abspath(__file__)} hook"]


def running():
    need_guest()
    if not server.alive():
        server.start()
        server.pool(size="8GiB")
        for number, address in enumerate(PORTALS[1:], 2):
            server.cli("portal", "add", f"{address}:3260", "--group", number)


@check("two guests fight over a LUN: all types of reservation, fencing under load, a crash of the target")
def reservations():
    running()
    folder = scratch() / "meet"
    folder.mkdir()
    iqn, lun = server.volume("shared", "256MiB", hosts=(guest_name(11), guest_name(12)))
    env = {"PALISADE_MEET": str(folder)}
    guests = [
        guest("reservations.sh", PORTALS[n], iqn, lun, role, id=11 + n, options=HOOK, seconds=600, env=env)
        for n, role in enumerate("ab")
    ]
    while any(g.poll() is None for g in guests):
        if (folder / "crash").exists():
            server.kill()
            server.start()
            (folder / "crash").unlink()
        time.sleep(0.1)
    for g in guests:
        guest_ended(g)


def over_paths(count, id):
    running()
    name = f"paths{count}"
    iqn, lun = server.volume(name, "512MiB", hosts=(guest_name(id),))
    seconds = 240 if LONG else 40
    process = guest("multipath.sh", iqn, lun, seconds, *PORTALS[:count], id=id, options=HOOK, seconds=300 + 4 * seconds)
    guest_ended(process)


@check("fio verifies over two paths while one after the other is cut")
def two_paths():
    over_paths(2, 13)


@check("fio verifies over four paths while one after the other is cut")
def four_paths():
    over_paths(4, 14)


@check("copy offload, COMPARE AND WRITE and WRITE SAME do what sg3-utils expects")
def offload():
    running()
    iqn, lun = server.volume("offload", "128MiB", hosts=(guest_name(15),))
    guest_ended(guest("offload.sh", PORTALS[0], iqn, lun, id=15))


@check("sg3-utils finds every page and command in order")
def pages():
    running()
    iqn, lun = server.volume("pages", "128MiB", hosts=(guest_name(16),))
    guest_ended(guest("sg.sh", PORTALS[0], iqn, lun, id=16))


if __name__ == "__main__":
    main()
