#!/usr/bin/python3
"""A pool filled to the brim: errors hosts understand, data intact, and ways out without a new login"""

import os
import time

import iscsi
from harness import INITIATOR, MIB, CommandFailed, Server, check, expect, main, note, scratch

FULL = (iscsi.DATA_PROTECT, 0x27, 0x07)  # SPC-4: SPACE ALLOCATION FAILED WRITE PROTECT
SOFT_THRESHOLD = (6, 0x38, 7)  # THIN PROVISIONING SOFT THRESHOLD REACHED
CHUNK = MIB
server = Server()
state = {}


def chunk(number):
    """Data that is told from all other chunks and cannot be compressed."""
    return state["random"][number % 61 * 4096:][:CHUNK - 8] + number.to_bytes(8, "big")


class Host(iscsi.Session):
    """A session that does as hosts do: sends a command that ended with a unit attention again."""

    warned = 0

    def command(self, *arguments, **options):
        while True:
            result = super().command(*arguments, **options)
            sense = iscsi.sense_code(result)
            if sense is None or sense[0] != iscsi.UNIT_ATTENTION:
                return result
            self.warned += sense == SOFT_THRESHOLD


def fill(session, first):
    """Writes chunks from `first` on until one fails; returns the number of the failed one and the result."""
    number = first
    while number * CHUNK < state["size"]:
        result = session.write(number * CHUNK // 512, chunk(number))
        if result.status != iscsi.GOOD:
            return number, result
        state["written"].add(number)
        number += 1
    return number, None


def intact(session):
    wrong = [n for n in sorted(state["written"]) if session.read(n * CHUNK // 512, CHUNK // 512).data != chunk(n)]
    expect(not wrong, f"chunks {wrong[:10]} of {len(state['written'])} read back other than written")


def written_within(session, number, seconds):
    """Writes a chunk as soon as there is room for it; returns how long that took."""
    begun = time.monotonic()
    while True:
        result = session.write(number * CHUNK // 512, chunk(number))
        if result.status == iscsi.GOOD:
            state["written"].add(number)
            return time.monotonic() - begun
        expect(iscsi.sense_code(result) == FULL, f"another error: {result.status:#x} {iscsi.sense_code(result)}")
        expect(time.monotonic() - begun < seconds, f"still no room after {seconds} s: {server.json('pool', 'show', 'p')}")
        time.sleep(0.2)


@check("writing into a full pool fails with 07h/27h/07h and nothing else does", vital=True)
def brim():
    state.update(random=os.urandom(CHUNK + 61 * 4096), written=set(), size=3 << 30)
    server.start()
    server.pool(size="768MiB")
    iqn, _ = server.volume("thin", "3GiB")
    session = state["session"] = Host(server.host, server.port, INITIATOR, iqn)
    session.ready()
    number, result = fill(session, 0)
    expect(result is not None, "the pool never became full")
    expect(iscsi.sense_code(result) == FULL, f"status {result.status:#x}, sense {iscsi.sense_code(result)}")
    note(f"full after {number} MiB of a pool of 768 MiB")
    expect(session.warned > 0, "the host was not warned before")
    expect(number >= 400, f"full already after {number} MiB of 768")
    state["next"] = number
    expect(session.ping() == b"ping", "no answer to a ping")
    expect(session.ready().status == iscsi.GOOD, "not ready")
    expect(session.flush().status == iscsi.GOOD, "SYNCHRONIZE CACHE fails")
    for n in (number + 1, 0, number + 500):
        result = session.write(n * CHUNK // 512, chunk(n))
        if n in state["written"]:
            continue  # an overwrite may succeed
        expect(result.status == iscsi.GOOD or iscsi.sense_code(result) == FULL, f"another error: {iscsi.sense_code(result)}")
        if result.status == iscsi.GOOD:
            state["written"].add(n)
    intact(session)


@check("a full pool tells so: status, pool and a thick volume that finds no room")
def told():
    pool = server.json("pool", "show", "p")
    expect(pool["free_bytes"] < 64 * MIB, f"free_bytes is {pool['free_bytes']}")
    expect(server.json("status")["warnings"], "no warning in the status")
    try:
        server.cli("volume", "create", "thick", "256MiB", "--thick")
    except CommandFailed as error:
        expect(error.status == 7, f"status {error.status}: {error}")
    else:
        expect(False, "a thick volume found room in a full pool")


@check("it survives a kill when full, with every byte")
def killed_when_full():
    server.kill()
    server.start()
    iqn, _ = server.address("thin")
    session = state["session"] = Host(server.host, server.port, INITIATOR, iqn)
    session.ready()
    intact(session)


@check("UNMAP works in a full pool, and makes room without a new login")
def unmapped():
    session = state["session"]
    for n in sorted(state["written"])[:200]:
        result = session.unmap(n * CHUNK // 512, CHUNK // 512)
        expect(result.status == iscsi.GOOD, f"UNMAP: status {result.status:#x}, sense {iscsi.sense_code(result)}")
        state["written"].discard(n)
    seconds = written_within(session, state["next"], 30)
    note(f"room again after {seconds:.1f} s")
    for n in range(state["next"] + 1, state["next"] + 100):
        written_within(session, n, 30)
    state["next"] += 100
    intact(session)


@check("a larger disk makes room without a new login")
def extended():
    session = state["session"]
    while True:
        state["next"], result = fill(session, state["next"])
        expect(result is not None, "the pool never became full again")
        time.sleep(1)  # what the collector still frees is used too
        if session.write(state["next"] * CHUNK // 512, chunk(state["next"])).status != iscsi.GOOD:
            break
        state["written"].add(state["next"])
        state["next"] += 1
    server.cli("pool", "extend", "p", "--disk", f"{scratch()}/{server.name}-p.disk:1536MiB")
    seconds = written_within(session, state["next"], 10)
    note(f"room again after {seconds:.1f} s")
    for n in range(state["next"] + 1, state["next"] + 300):
        written_within(session, n, 10)
    intact(session)
    session.logout()


@check("a volume at its limit fails like a full pool, others go on, and a higher limit helps without a new login")
def limited():
    small = Server()
    small.start()
    small.pool(size="1GiB")
    thin_iqn, _ = small.volume("thin", "512MiB")
    other_iqn, _ = small.volume("other", "512MiB")
    small.cli("volume", "set", "thin", "--limit", "100MiB")
    state.update(written=set(), size=512 << 20)
    session = Host(small.host, small.port, INITIATOR, thin_iqn)
    session.ready()
    number, result = fill(session, 0)
    expect(result is not None and iscsi.sense_code(result) == FULL, f"after {number} MiB: {result}")
    expect(95 <= number <= 100, f"{number} MiB fitted into a limit of 100")
    expect(session.write(0, chunk(0)).status == iscsi.GOOD, "an overwrite fails")
    other = Host(small.host, small.port, INITIATOR, other_iqn)
    other.ready()
    for n in range(150):
        expect(other.write(n * CHUNK // 512, chunk(n)).status == iscsi.GOOD, f"another volume fails at {n} MiB")
    expect(any("limit" in warning for warning in small.json("status")["warnings"]), "no warning in the status")
    small.kill()
    small.start()
    session = Host(small.host, small.port, INITIATOR, small.address("thin")[0])
    session.ready()
    result = session.write(300 * CHUNK // 512, chunk(300))
    expect(iscsi.sense_code(result) == FULL, "the limit is forgotten after a restart")
    small.cli("volume", "set", "thin", "--limit", "200MiB")
    for n in range(number, 150):
        expect(session.write(n * CHUNK // 512, chunk(n)).status == iscsi.GOOD, f"{n} MiB do not fit into 200")
    space = small.json("pool", "show", "p")["space"]
    parts = sum(bytes for name, bytes in space.items() if name not in ("total_bytes", "shared_bytes", "as_of_unix_ms"))
    expect(parts == space["total_bytes"], f"the parts of the pool do not add up: {space}")
    small.stop()


@check("snapshots go, the oldest first, before writes fail for want of space")
def snapshots_go():
    small = Server()
    small.start()
    small.pool(size="768MiB")
    iqn, _ = small.volume("db", "128MiB")
    small.cli("volume", "set", "db", "--on-short", "delete-oldest-of-all")
    session = Host(small.host, small.port, INITIATOR, iqn)
    session.ready()
    for turn in range(16):  # 16 times 100 MiB that snapshots would keep
        if turn == 8:
            small.kill()
            small.start()
            session = Host(small.host, small.port, INITIATOR, small.address("db")[0])
            session.ready()
        for n in range(100):
            result = session.write(n * CHUNK // 512, chunk(n + turn))
            expect(result.status == iscsi.GOOD, f"round {turn}, MiB {n}: {result.status:#x} {iscsi.sense_code(result)}")
        small.cli("snapshot", "create", "db", "--name", f"s{turn}")
        if turn == 0:
            small.cli("snapshot", "keep", "db@s0")
    names = [snapshot["name"] for snapshot in small.json("snapshot", "list", "db")]
    expect(names[0] == "s0", f"the one that is kept is gone: {names}")
    expect(names[1:] == [f"s{n}" for n in range(17 - len(names), 16)], f"not the oldest went: {names}")
    dropped = small.json("volume", "show", "db")["rules"]["dropped"]
    expect(dropped and dropped["count"] == 16 - len(names) > 0, f"{dropped}, and there are {names}")
    note(f"{dropped['count']} of 16 snapshots went")
    wrong = [n for n in range(100) if session.read(n * CHUNK // 512, CHUNK // 512).data != chunk(n + 15)]
    expect(not wrong, f"chunks {wrong[:10]} read back other than written")
    small.stop()


@check("a thick volume keeps its space while others fill the pool")
def thick():
    keeper = Server()
    keeper.start()
    keeper.pool(size="1GiB")
    thick_iqn, _ = keeper.volume("thick", "256MiB", "--thick")
    thin_iqn, _ = keeper.volume("thin", "3GiB")
    state.update(written=set(), size=3 << 30)
    thin = Host(keeper.host, keeper.port, INITIATOR, thin_iqn)
    thin.ready()
    number, result = fill(thin, 0)
    expect(result is not None and iscsi.sense_code(result) == FULL, f"the thin volume: {result}")
    session = Host(keeper.host, keeper.port, INITIATOR, thick_iqn)
    session.ready()
    for turn in range(3):  # the first writes and two rounds of overwriting
        for n in range(256):
            result = session.write(n * CHUNK // 512, chunk(n + turn))
            expect(result.status == iscsi.GOOD, f"round {turn}, MiB {n}: {result.status:#x} {iscsi.sense_code(result)}")
    keeper.stop()


if __name__ == "__main__":
    main()
