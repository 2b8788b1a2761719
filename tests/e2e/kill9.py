#!/usr/bin/python3
"""kill -9 of the server about each second under verified load: no acknowledged write is lost"""

import contextlib
import json
import os
import random
import subprocess
import time

import iscsi
from harness import BINARY, INITIATOR, LOGS, LONG, Server, check, expect, main, note, scratch

KILLS = 1000 if LONG else 100
ROUND_SECONDS = 30
# What a restart should take, and what no slow or busy machine makes it take: the first is told, the second is checked.
RESTART_SECONDS, RESTART_SECONDS_MAX = 2, 20
# What each volume gets: options of its creation, block sizes, depth, sessions, share of writes.
LOADS = {
    "small": ((), "4KiB", 32, 1, "randwrite"),
    "tiny": ((), "512,4KiB", 8, 2, "mix:30"),
    "large": ((), "64KiB-1MiB", 4, 2, "randwrite"),
    "mixed": (("--block-size", "4096"), "4KiB-256KiB", 16, 1, "mix:50"),
    "deep": ((), "8KiB", 128, 1, "randwrite"),
    "buffered": (("--cache", "buffered"), "4KiB-64KiB", 16, 1, "mix:20"),
}

server = Server()


def bench(name, seconds, pattern=None):
    """Starts a verified load on a volume."""
    _, sizes, depth, sessions, usual = LOADS[name]
    command = [
        BINARY, "bench", server.url(name), "--rw", pattern or usual, "--bs", sizes, "--depth", depth, "--sessions", sessions,
        "--seconds", seconds, "--verify", scratch() / f"{name}.ledger", "--initiator", INITIATOR, "--wait", "--json",
    ]
    log = open(LOGS / f"bench-{name}.log", "a")
    return subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)


def judge(name, process, seconds):
    """Waits for a load: it may have reconnected, but had no error and found no fault. Returns its report."""
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    with open(LOGS / f"bench-{name}.json", "a") as log:
        log.write(text)
    log = (LOGS / f"bench-{name}.log").read_text(errors="replace")
    expect(process.returncode == 0, lambda: f"{name}: bench ended with {process.returncode}: {log[-600:]} {text[-1500:]}")
    report = json.loads(text)
    expect(report["verify"]["fault_count"] == 0, lambda: f"{name}: {report['verify']}")
    expect(report["errors"] == 0, lambda: f"{name}: errors seen by the initiator: {report['error_kinds']}")
    return report


@check(f"{KILLS} kills lose no acknowledged write, and nothing but reconnects is seen", vital=True)
def kills():
    server.start()
    server.pool(size="4GiB")
    for name, (options, *_) in LOADS.items():
        server.volume(name, "192MiB", *options)
    chance = random.Random(os.environ.get("PALISADE_SEED", "1"))
    done, restarts, stalls, writes, reconnects, number = 0, [], [], 0, 0, 0
    while done < KILLS:
        pair = [list(LOADS)[(2 * number + i) % len(LOADS)] for i in range(2)]
        number += 1
        loads = {name: bench(name, ROUND_SECONDS) for name in pair}
        while any(p.poll() is None for p in loads.values()):
            time.sleep(chance.uniform(0.3, 1.5))
            if all(p.poll() is not None for p in loads.values()):
                break
            server.kill()
            done += 1
            restarts.append(server.start())
        for name, process in loads.items():
            report = judge(name, process, 300)
            writes += report["writes"]["commands"]
            reconnects += report["reconnects"]
            stalls.append(report["longest_stall_ms"] / 1000)
    note(f"{done} kills, {writes} acknowledged writes, {reconnects} reconnects")
    note(f"restart until it answers: {sum(restarts) / len(restarts):.2f} s on average, {max(restarts):.2f} s at most; longest stall {max(stalls):.1f} s")
    expect(writes > 20 * done, f"only {writes} writes between {done} kills: the load was not there")
    expect(reconnects >= done / 2, f"only {reconnects} reconnects at {done} kills: the load was not there")


@check("every volume reads back as acknowledged once the server stays up")
def read_back():
    expect(server.alive(), "there is no server")
    for name in LOADS:
        report = judge(name, bench(name, 1, "randread"), 300)
        expect(report["verify"]["resumed"], f"{name}: nothing was resumed")
        expect(report["verify"]["checked_at_start"] > 0, f"{name}: nothing was checked")


@check("the first read is served soon after a kill")
def first_read():
    expect(server.alive(), "there is no server")
    iqn, lun = server.address("small")
    load = bench("small", 10)
    time.sleep(5)
    server.kill()
    begun = time.monotonic()
    server.start(wait=False)
    while True:
        with contextlib.suppress(OSError, iscsi.Closed, iscsi.LoginFailed):
            session = iscsi.Session(server.host, server.port, INITIATOR, iqn, seconds=5)
            session.ready(lun)
            if session.read(0, 8, lun=lun).status == iscsi.GOOD:
                break
        expect(time.monotonic() - begun < 60, "no read was served within a minute")
        time.sleep(0.01)
    seconds = time.monotonic() - begun
    session.logout()
    judge("small", load, 120)
    note(f"first read after {seconds:.2f} s; the aim is {RESTART_SECONDS} s")
    expect(seconds < RESTART_SECONDS_MAX, f"it took {seconds:.2f} s")


if __name__ == "__main__":
    main()
