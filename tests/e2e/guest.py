#!/usr/bin/python3
"""Debian guests do a disk's whole life on volumes: discovery to fstrim, growth, two at once"""

import os
import subprocess
import sys
import time

import iscsi
from harness import GIB, Server, check, expect, guest, guest_ended, guest_name, main, need_guest, note, own_network, palisade, palisade_json


def hook(action, *arguments):
    """What a guest's `host ...` comes to, with the volume in PALISADE_VOLUME and the data folder in PALISADE_DATA."""
    volume = os.environ["PALISADE_VOLUME"]
    if action == "used":
        print(palisade_json("volume", "show", volume)["used_bytes"])
    elif action == "palisade":
        print(palisade(*arguments))
    elif action == "clone":
        palisade("snapshot", "create", volume, "--name", "base")
        made = palisade_json("volume", "clone", f"{volume}@base", f"{volume}-clone")
        palisade("volume", "grant", f"{volume}-clone", guest_name(10).rsplit(":", 1)[-1])
        print(made["iqn"], 0)
    else:
        sys.exit(f"no such action: {action}")


if sys.argv[1:2] == ["hook"]:
    hook(*sys.argv[2:])
    sys.exit(0)

own_network(1)
server = Server(host="10.77.0.1", port=3260)
HOOK = ["-H", f"{sys.executable} {os.path.abspath(__file__)} hook"]


def running():
    need_guest()
    if not server.alive():
        server.start()
        server.pool(size="8GiB")


def on_volume(name, size, script, *arguments, id=10, options=(), seconds=420):
    """Starts a guest's script on a new volume; the script's first arguments are portal, IQN and LUN."""
    running()
    iqn, lun = server.volume(name, size, *options, hosts=(guest_name(id),))
    env = {"PALISADE_VOLUME": name, "PALISADE_DATA": str(server.data)}
    return guest(script, "10.77.0.1", iqn, lun, *arguments, id=id, options=HOOK, seconds=seconds, env=env)


@check("ext4 and XFS on a volume found by discovery are whole after logout and login")
def file_systems():
    guest_ended(on_volume("fs", "1GiB", "fs-verify.sh"))


@check("a gigabyte on two partitions is whole after a remount, and fstrim gives its space back")
def gigabyte():
    text = guest_ended(on_volume("gigabyte", "3GiB", "gigabyte.sh", 1024, seconds=900))
    for line in text.splitlines():
        if "used" in line or "written in" in line or "checked in" in line:
            note(line.strip())


@check("discard, UNMAP and WRITE SAME do what Linux expects of a thin disk")
def discard():
    text = guest_ended(on_volume("discard", "256MiB", "discard.sh"))
    expect("provisioning_mode:unmap" in text, lambda: f"Linux chose another way to discard:\n{text[:1500]}")


@check("in a live session a LUN is added, grows under a file system, turns read-only, goes and comes; another is not disturbed")
def live_changes():
    running()
    server.volume("first", "64MiB", hosts=(guest_name(10),))
    server.volume("second", "128MiB", hosts=(guest_name(10),))
    server.cli("target", "create", "farm")
    server.cli("target", "map", "farm", "first")
    iqn = server.json("target", "show", "farm")["iqn"]
    host = server.json("volume", "show", "first")["grants"][0]["host"]
    env = {"PALISADE_VOLUME": "second", "PALISADE_DATA": str(server.data)}
    text = guest_ended(guest("hot-add.sh", "10.77.0.1", iqn, host, options=HOOK, seconds=420, env=env))
    for line in text.splitlines():
        if "arrived" in line or "rounds" in line:
            note(line.strip())


@check("a volume with blocks of 4096 bytes holds file systems too")
def large_blocks():
    guest_ended(on_volume("large", "1GiB", "fs-verify.sh", options=("--block-size", "4096")))


@check("two guests work on two volumes at once, each seeing only its own")
def two_guests():
    first = on_volume("one", "1GiB", "fs-verify.sh", id=11)
    second = on_volume("two", "1GiB", "fs-verify.sh", id=12)
    texts = [guest_ended(first), guest_ended(second)]
    own, other = server.address("one")[0], server.address("two")[0]
    expect(own in texts[0] and other not in texts[0], "the first guest saw what is not its own")
    expect(other in texts[1] and own not in texts[1], "the second guest saw what is not its own")


@check("a database on a clone is whole while its parent is written, snapshotted and rolled back, and the clone detached")
def database():
    running()
    work = on_volume("db", "256MiB", "database.sh", 20)
    server.cli("host", "create", "vandal", "--iqn", "iqn.2026-11.local.e2e:vandal")
    names = lambda: [volume["name"] for volume in server.json("volume", "list")]
    while "db-clone" not in names():
        expect(work.poll() is None, lambda: f"the guest ended early:\n{work.log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.2)
    server.cli("volume", "grant", "db", "vandal")
    iqn, lun = server.address("db")
    rounds = 0
    while work.poll() is None:
        session = iscsi.Session("10.77.0.1", 3260, "iqn.2026-11.local.e2e:vandal", iqn)
        session.ready(lun)
        for block in range(0, 200000, 4096):
            session.write(block, os.urandom(4096), lun=lun)
        session.logout()
        server.cli("snapshot", "create", "db", "--name", f"r{rounds}")
        server.cli("snapshot", "rollback", "db@base", "--force")
        for snapshot in server.json("snapshot", "list", "db"):
            if snapshot["name"] != "base":
                server.cli("snapshot", "delete", f"db@{snapshot['name']}")
        rounds += 1
        if rounds == 3:
            server.cli("volume", "detach", "db-clone")
    text = guest_ended(work)
    expect(rounds > 3, f"only {rounds} rollbacks")
    expect(server.json("volume", "diff", "db@base", "db")["ranges"] == [], "the parent is not what the snapshot holds")
    expect(server.json("volume", "show", "db-clone")["origin"] is None, "the clone is not detached")
    note(f"{rounds} rollbacks, " + next(line for line in text.splitlines() if "transactions" in line).split("] ")[-1])


@check("a host without a grant sees nothing and is refused")
def no_grant():
    iqn, _ = server.address("fs")
    stranger = iscsi.Session("10.77.0.1", 3260, guest_name(99))
    expect(stranger.send_targets() == [], "a stranger was told of targets")
    stranger.logout()
    try:
        iscsi.Session("10.77.0.1", 3260, guest_name(99), iqn)
    except iscsi.LoginFailed as error:
        expect(error.status >> 8 == 2, f"refused with {error}, which is not the initiator's class of error")
    else:
        expect(False, "a stranger got in")


if __name__ == "__main__":
    main()
