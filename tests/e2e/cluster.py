#!/usr/bin/python3
"""Guests share a LUN: reservations, fence_scsi, several paths, drained portals, offload, CHAP"""

import os
import pathlib
import subprocess
import sys
import time

from harness import (
    BINARY, LAB, LONG, Server, check, expect, guest, guest_ended, guest_name, main, need_guest, own_network, palisade, scratch,
)

MEET_SECONDS = 240
ADDRESSES = [f"10.77.{n}.1" for n in range(4)]
PORTALS = [f"{address}:3260" for address in ADDRESSES]
SMALL_GUEST = 15
SMALL_HOST = guest_name(SMALL_GUEST).rsplit(":", 1)[-1]


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


def drain(number):
    print(palisade("portal", "drain", "--group", int(number) + 1, timeout=120))


def resume(number):
    palisade("portal", "resume", "--group", int(number) + 1)


def moved(number, to):
    print(palisade("portal", "remove", PORTALS[int(number)], "--moved-to", PORTALS[int(to)]))


def back(number):
    """A portal that has moved for good is closed, and opened as it was."""
    portal = PORTALS[int(number)]
    palisade("portal", "remove", portal, "--force")
    palisade("portal", "add", portal, "--group", int(number) + 1)


def demand(what, kind, *secrets):
    """What logins have to prove from now on: nothing, a secret, or that and our own."""
    options = {"none": ["--no-chap"], "one": ["--chap"], "mutual": ["--chap", "--mutual"]}[kind]
    lines = "".join(f"{secret}\n" for secret in secrets)
    subprocess.run([BINARY, *what, *options], input=lines, text=True, check=True)


def hook(action, *arguments):
    """What a guest's `host ...` comes to."""
    actions = {
        "meet": meet,
        "crash": crash,
        "path-down": lambda n: network(n, "down"),
        "path-up": lambda n: network(n, "up"),
        "drain": drain,
        "resume": resume,
        "moved": moved,
        "back": back,
        "chap": lambda kind, *secrets: demand(("host", "set", SMALL_HOST), kind, *secrets),
        "discovery-chap": lambda kind, *secrets: demand(("discovery", "set", *(["--user", "discover"] if secrets else [])), kind, *secrets),
    }
    if action not in actions:
        sys.exit(f"no such action: {action}")
    actions[action](*arguments)


if sys.argv[1:2] == ["hook"]:
    hook(*sys.argv[2:])
    sys.exit(0)

own_network(4)
server = Server(host="10.77.0.1", port=3260)
HOOK = ["-H", f"{sys.executable} {os.path.abspath(__file__)} hook"]


def running():
    need_guest()
    if not server.alive():
        server.start()
        server.pool(size="8GiB")
        for number, portal in enumerate(PORTALS[1:], 2):
            server.cli("portal", "add", portal, "--group", number)


@check("two guests fight over a LUN: all types of reservation, a takeover by fence_scsi under load, a crash of the target")
def reservations():
    running()
    folder = scratch() / "meet"
    folder.mkdir()
    iqn, lun = server.volume("shared", "256MiB", hosts=(guest_name(11), guest_name(12)))
    env = {"PALISADE_MEET": str(folder)}
    guests = [
        guest("reservations.sh", ADDRESSES[n], iqn, lun, role, id=11 + n, options=HOOK, seconds=600, env=env)
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
    process = guest("multipath.sh", iqn, lun, seconds, *ADDRESSES[:count], id=id, options=HOOK, seconds=300 + 4 * seconds, env=own_server())
    guest_ended(process)


def own_server():
    """For hooks that use our server."""
    return {"PALISADE_DATA": str(server.data)}


@check("fio verifies over two paths while one after the other is drained, then cut")
def two_paths():
    over_paths(2, 13)


@check("fio verifies over four paths while one after the other is cut")
def four_paths():
    over_paths(4, 14)


_small = {}


def small(name):
    """The part of the output of a guest that runs several small scripts which is about one; it must have ended well."""
    running()
    if not _small:
        _small["error"] = "the guest did not end"
        volumes = {n: server.volume(n, "128MiB", hosts=(guest_name(SMALL_GUEST),)) for n in ("offload", "pages", "drain", "chap")}
        volumes["sanitize"] = server.volume("sanitize", "512MiB", hosts=(guest_name(SMALL_GUEST),))
        scripts = [
            ("offload.sh", ADDRESSES[0], *volumes["offload"]),
            ("sg.sh", ADDRESSES[0], *volumes["pages"]),
            ("sanitize.sh", ADDRESSES[0], *volumes["sanitize"]),
            ("drain.sh", *volumes["drain"], *ADDRESSES[:3]),
            ("chap.sh", ADDRESSES[0], *volumes["chap"]),
        ]
        words = [word for script in scripts for word in ("--", *script)][1:]
        files = [word for script in scripts for word in ("-f", LAB / "guest-scripts" / script[0])]
        process = guest("several.sh", *words, id=SMALL_GUEST, options=[*HOOK, *files], env=own_server())
        process.wait(400)
        _small["text"] = process.log.read_text(errors="replace")
    text = _small.get("text", _small["error"])
    before, ended, _ = text.partition(f"several: {name} ")
    lines = before.rpartition("several: ")[2].splitlines()
    expect(f"several: {name} 0\n" in text, lambda: f"{name}{'' if ended else ' did not end'}:\n" + "\n".join(lines[-25:]))
    return lines


@check("copy offload, COMPARE AND WRITE and WRITE SAME do what sg3-utils expects")
def offload():
    small("offload.sh")


@check("sg3-utils finds every page and command in order")
def pages():
    small("sg.sh")


@check("sg_sanitize erases and overwrites a volume, and sg_requests tells how far it is")
def sanitized():
    small("sanitize.sh")


@check("a guest with one path goes where its drained or moved portal sends it, without an error")
def drained():
    small("drain.sh")


@check("open-iscsi: CHAP wrong, right and mutual, at login and at discovery")
def chap():
    small("chap.sh")


if __name__ == "__main__":
    main()
