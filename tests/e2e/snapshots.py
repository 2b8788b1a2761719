#!/usr/bin/python3
"""Snapshots, clones, groups, rollback and differences, as a host sees them, with the server killed in between"""

import contextlib
import os
import threading
import time

import iscsi
from harness import INITIATOR, MIB, CommandFailed, Server, check, expect, main, note

CHUNK = 256 * 1024
server = Server()
state = {"random": os.urandom(CHUNK + 4096)}


@contextlib.contextmanager
def host(name):
    """A session of the volume's own target."""
    iqn, _ = server.address(name)
    session = iscsi.Session(server.host, server.port, INITIATOR, iqn)
    session.ready()
    try:
        yield session
    finally:
        session.logout()


def content(seed):
    return state["random"][seed % 61 * 64:][:CHUNK - 8] + seed.to_bytes(8, "big")


def write(session, at, seed):
    result = session.write(at * CHUNK // 512, content(seed))
    expect(result.status == iscsi.GOOD, lambda: f"a write ends with {iscsi.sense_code(result)}")


def seed_at(session, at):
    """What a chunk was written with; 0 for zeros."""
    data = session.read(at * CHUNK // 512, CHUNK // 512).data
    seed = int.from_bytes(data[-8:], "big")
    expect(data == (content(seed) if seed else bytes(CHUNK)), f"chunk {at} is torn")
    return seed


def holds(name, seeds):
    with host(name) as session:
        found = [seed_at(session, at) for at in range(len(seeds))]
    expect(found == seeds, f"{name} holds {found}, and should hold {seeds}")


def grant(name):
    server.cli("volume", "grant", name, INITIATOR.rsplit(":", 1)[-1])


def refused(status, *arguments):
    try:
        server.cli(*arguments)
    except CommandFailed as error:
        expect(error.status == status, f"status {error.status}: {error}")
        return str(error)
    expect(False, f"{arguments} was not refused")


def restart():
    server.kill()
    server.start()


@check("a snapshot keeps what was there, and a clone of it is a disk of its own, through kill -9", vital=True)
def kept():
    server.start()
    server.pool(size="1GiB")
    server.volume("mail", "64MiB")
    with host("mail") as session:
        for at in range(4):
            write(session, at, 10 + at)
        server.cli("snapshot", "create", "mail", "--name", "before")
        for at in range(2, 6):
            write(session, at, 20 + at)
        session.unmap(0, CHUNK // 512)
    restart()
    server.cli("volume", "clone", "mail@before", "test")
    grant("test")
    restart()
    holds("mail", [0, 11, 22, 23, 24, 25])
    holds("test", [10, 11, 12, 13, 0, 0])
    with host("test") as session:
        write(session, 0, 30)
    holds("mail", [0, 11, 22, 23, 24, 25])
    mail, test = (server.json("volume", "show", name) for name in ("mail", "test"))
    expect(mail["naa"] != test["naa"] and mail["serial"] != test["serial"], "both are the same disk to hosts")
    expect(test["origin"]["volume"] == "mail" and test["origin"]["snapshot"] == "before", f"{test['origin']}")
    expect([s["name"] for s in server.json("snapshot", "list", "mail")] == ["before"], "the snapshot is not listed")


@check("differences are exact, in bytes")
def difference():
    found = server.json("volume", "diff", "mail@before", "mail")["ranges"]
    changed = {at for r in found for at in range(r["offset"] // CHUNK, (r["offset"] + r["length"] - 1) // CHUNK + 1)}
    expect(changed == {0, 2, 3, 4, 5}, f"{found}")
    with host("mail") as session:
        write(session, 1, 11)  # what it had
    expect(server.json("volume", "diff", "mail@before", "mail")["ranges"] == found, "the same content differs")


@check("a volume goes back while nobody uses it, and what it held is kept")
def rollback():
    with host("mail"):
        refused(6, "snapshot", "rollback", "mail@before")
    holds("mail", [0, 11, 22, 23, 24, 25])
    safety = server.json("snapshot", "rollback", "mail@before")["safety"]["name"]
    restart()
    holds("mail", [10, 11, 12, 13, 0, 0])
    server.cli("snapshot", "rollback", f"mail@{safety}")
    holds("mail", [0, 11, 22, 23, 24, 25])
    session = iscsi.Session(server.host, server.port, INITIATOR, server.address("mail")[0])
    session.ready()
    server.cli("snapshot", "rollback", "mail@before", "--force")
    expect(server.json("session", "list") == [], "the session of before is still there")
    session.close()
    holds("mail", [10, 11, 12, 13, 0, 0])


@check("snapshots of two volumes at one instant keep the order of dependent writes")
def instant():
    for name in ("data", "log"):
        server.volume(name, "64MiB")
    stop, done = threading.Event(), []

    def writer():
        with host("log") as log, host("data") as data:
            number = 1
            while not stop.is_set():
                write(log, 0, number)
                write(data, 0, number)
                done.append(number)
                number += 1

    thread = threading.Thread(target=writer)
    thread.start()
    before = []
    for taken in range(8):
        time.sleep(0.2)
        before.append(len(done))
        server.cli("snapshot", "create", "data", "log", "--name", f"s{taken}")
    stop.set()
    thread.join()
    expect(len(done) > before[-1] > before[0], f"writes stood still: {before} of {len(done)}")
    restart()
    for taken, acknowledged in enumerate(before):
        seeds = []
        for name in ("log", "data"):
            server.cli("volume", "clone", f"{name}@s{taken}", f"{name}-{taken}", "--read-only")
            grant(f"{name}-{taken}")
            with host(f"{name}-{taken}") as session:
                seeds.append(seed_at(session, 0))
        log, data = seeds
        expect(log - data in (0, 1) and data >= acknowledged, f"snapshot {taken}: log {log}, data {data}, {acknowledged} before")


@check("what is read-only is so for hosts, and a template stays while there are clones of it")
def protected():
    with host("data-0") as session:
        sense = iscsi.sense_code(session.write(0, content(1)))
        expect(sense is not None and sense[:2] == (iscsi.DATA_PROTECT, 0x27), f"a write ends with {sense}")
    server.cli("volume", "set", "test", "--template", "on")
    server.cli("volume", "clone", "test", "vm1")
    grant("vm1")
    restart()
    holds("vm1", [30, 11, 12, 13, 0, 0])
    expect("vm1" in refused(6, "volume", "delete", "test", "--with-snapshots"), "it is not said who needs it")
    with host("test") as session:
        expect(session.write(0, content(1)).status != iscsi.GOOD, "a template is written to")
    server.cli("volume", "detach", "vm1")
    restart()
    end = time.monotonic() + 60
    while server.json("volume", "show", "vm1")["origin"]:
        expect(time.monotonic() < end, "a clone is not detached")
        time.sleep(0.1)
    server.cli("volume", "delete", "test", "--with-snapshots")
    restart()
    holds("vm1", [30, 11, 12, 13, 0, 0])


@check("a schedule makes snapshots and deletes old ones, and goes on after a kill")
def scheduled():
    server.cli("schedule", "create", "often", "--volume", "mail", "--every", "1m", "--keep", "last=2", "--name-pattern", "m-{time}")
    restart()
    end = time.monotonic() + 100
    while not (made := [s for s in server.json("snapshot", "list", "mail") if s["schedule"] == "often"]):
        expect(time.monotonic() < end, f"no snapshot: {server.json('schedule', 'show', 'often')}")
        time.sleep(1)
    expect(made[0]["name"].startswith("m-"), made[0]["name"])
    server.cli("schedule", "disable", "often")
    server.cli("schedule", "delete", "often")


@check("deleting gives the space back")
def space():
    refused(6, "volume", "delete", "mail")
    for volume in server.json("volume", "list"):
        server.cli("volume", "delete", volume["name"], "--with-snapshots")
    expect(server.json("snapshot", "list") == [], "snapshots are left over")
    end = time.monotonic() + 60
    while (used := server.json("pool", "show", "p")["used_bytes"]) > MIB:
        expect(time.monotonic() < end, f"{used} bytes are still taken")
        time.sleep(0.5)
    restart()
    expect(server.json("pool", "show", "p")["used_bytes"] <= MIB, "space is taken again after a kill")


@check("how long writes wait for a snapshot of 32 volumes of 1 TiB")
def pause():
    names = [f"w{number}" for number in range(32)]
    for name in names:
        server.volume(name, "1TiB")
    stop, spans = threading.Event(), []

    def writer():
        with host(names[-1]) as session:
            while not stop.is_set():
                begun = time.monotonic()
                write(session, len(spans) % 64, 1)
                spans.append((begun, time.monotonic() - begun))

    thread = threading.Thread(target=writer)
    thread.start()
    waits = []
    for number in range(5):
        time.sleep(0.3)
        begun = time.monotonic()
        server.cli("snapshot", "create", *names, "--name", f"p{number}")
        ended = time.monotonic()
        waits.append(max((span for at, span in list(spans) if at < ended and at + span > begun), default=0))
    stop.set()
    thread.join()
    usual = sorted(span for _, span in spans)[len(spans) // 2]
    note(f"writes of 256 KiB: {usual * 1000:.1f} ms usually; the longest at each of 5 snapshots: "
         + ", ".join(f"{wait * 1000:.0f}" for wait in waits) + " ms")
    expect(len(server.json("snapshot", "list")) == 5 * 32, "not all snapshots are there")


@check("a snapshot of a large volume takes as long as of a small one")
def constant():
    for volume in server.json("volume", "list"):
        server.cli("volume", "delete", volume["name"], "--with-snapshots")
    for name, size in (("small", "64MiB"), ("large", "1TiB")):
        server.volume(name, size)
        with host(name) as session:
            for at in range(64):
                write(session, at, at + 1)
        spans = []
        for number in range(5):
            begun = time.monotonic()
            server.cli("snapshot", "create", name, "--name", f"t{number}")
            spans.append(time.monotonic() - begun)
        note(f"{size}: {sorted(spans)[2] * 1000:.0f} ms for `palisade snapshot create`, program start included")


if __name__ == "__main__":
    main()
