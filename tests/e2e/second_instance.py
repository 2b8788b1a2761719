#!/usr/bin/python3
"""A second server on the same data refuses, and bad disks are refused with words that help"""

import os
import shutil
import subprocess

import iscsi
from harness import BINARY, INITIATOR, MIB, CommandFailed, Server, check, expect, free_port, main, note, scratch

server = Server()


def running():
    if not server.alive():
        server.start()
        server.pool(size="256MiB")
        server.volume("v", "64MiB")


def refused(*arguments, status, words=()):
    """The command has to fail with this exit status and these words in its message."""
    try:
        text = server.cli(*arguments)
    except CommandFailed as error:
        expect(error.status == status, f"status {error.status}, not {status}: {error}")
        for word in words:
            expect(str(word) in error.stderr, f"`{word}` is not in: {error.stderr.strip()}")
        return note(error.stderr.strip())
    raise AssertionError(f"{' '.join(map(str, arguments))} succeeded: {text}")


def serve(data, port):
    return subprocess.run([BINARY, "serve", "--data", data, "--portal", f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=20)


def still_serves():
    expect(server.alive(), lambda: server.tail())
    iqn, _ = server.address("v")
    session = iscsi.Session(server.host, server.port, INITIATOR, iqn)
    session.ready()
    data = os.urandom(4096)
    expect(session.write(0, data).status == iscsi.GOOD and session.read(0, 8).data == data, "no reads and writes any more")
    session.logout()


@check("a second server on the same data refuses, and the first goes on")
def same_data():
    running()
    run = serve(server.data, free_port())
    expect(run.returncode == 14, f"status {run.returncode}: {run.stderr}")
    expect(str(server.data) in run.stderr, f"the folder is not named: {run.stderr}")
    note(run.stderr.strip().splitlines()[-1])
    still_serves()


@check("a second server on the same address refuses, and the first goes on")
def same_address():
    running()
    run = serve(scratch() / "other", server.port)
    expect(run.returncode == 15, f"status {run.returncode}: {run.stderr}")
    expect(str(server.port) in run.stderr, f"the address is not named: {run.stderr}")
    note(run.stderr.strip().splitlines()[-1])
    still_serves()


@check("a server that was killed leaves nothing in the way of the next")
def after_kill():
    running()
    server.kill()
    server.start()
    still_serves()


@check("a disk that is too small, in a pool, a folder or not there is refused by name")
def bad_disks():
    running()
    small = scratch() / "small.disk"
    with open(small, "wb") as file:
        file.truncate(64 * 1024)
    refused("pool", "create", "q", "--disk", small, status=3, words=(small,))
    taken = scratch() / f"{server.name}-p.disk"
    refused("pool", "create", "q", "--disk", taken, status=6, words=(taken,))
    refused("pool", "create", "q", "--disk", scratch(), status=3, words=(scratch(),))
    refused("pool", "create", "q", "--disk", scratch() / "none.disk", status=4, words=("none.disk",))
    refused("pool", "create", "q", "--disk", "/nowhere/at/all.disk:1GiB", status=4, words=("/nowhere/at/all.disk",))
    expect([p["name"] for p in server.json("pool", "list")] == ["p"], "a refused pool is listed")
    still_serves()


@check("a disk of another server's pool is refused")
def foreign_disk():
    running()
    other = Server()
    other.start()
    taken = scratch() / f"{server.name}-p.disk"
    try:
        other.cli("pool", "create", "stolen", "--disk", taken)
    except CommandFailed as error:
        expect(error.status == 6, f"status {error.status}: {error}")
        note(error.stderr.strip())
    else:
        raise AssertionError("the disk of another server was taken")
    other.stop()
    still_serves()


@check("a pool whose disk is gone is offline with a reason; the rest is served, and it comes back with the disk")
def lost_disk():
    running()
    server.pool("gone", "128MiB")
    server.cli("volume", "create", "lost", "64MiB", "--pool", "gone")
    server.stop()
    disk = scratch() / f"{server.name}-gone.disk"
    shutil.move(disk, f"{disk}.away")
    server.start()
    pool = server.json("pool", "show", "gone")
    expect(pool["state"] == "offline" and str(disk) in (pool["reason"] or ""), f"{pool}")
    expect(server.json("volume", "show", "lost")["state"] == "offline", "its volume is not offline")
    note(pool["reason"])
    still_serves()
    server.stop()
    shutil.move(f"{disk}.away", disk)
    server.start()
    expect(server.json("pool", "show", "gone")["state"] == "online", "not online with its disk back")


@check("a damaged label is told, and does not stop the rest")
def damaged():
    running()
    server.pool("harmed", "128MiB")
    server.stop()
    with open(scratch() / f"{server.name}-harmed.disk", "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for offset in range(0, size, 8 * MIB):  # every copy of the label, wherever it is
            file.seek(offset)
            file.write(os.urandom(MIB))
        file.seek(size - MIB)
        file.write(os.urandom(MIB))
    server.start()
    pool = server.json("pool", "show", "harmed")
    expect(pool["state"] == "offline" and pool["reason"], f"{pool}")
    note(pool["reason"])
    still_serves()
    server.stop()


if __name__ == "__main__":
    main()
