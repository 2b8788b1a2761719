#!/usr/bin/python3
"""Restarts under load are a pause for hosts, never an error"""

import json
import os
import subprocess
import time

from harness import (
    BINARY, INITIATOR, LOGS, LONG, Server, check, expect, guest, guest_ended, guest_name, main, need_guest, note, own_network,
)

RESTARTS = 20 if LONG else 4
own_network(1)
server = Server(host="10.77.0.1", port=3260)


def running():
    if not server.alive():
        server.start()
        server.pool(size="4GiB")


def bench(seconds):
    command = [
        BINARY, "bench", server.url("load"), "--rw", "mix:50", "--bs", "4KiB-64KiB", "--depth", "16", "--sessions", "2",
        "--seconds", str(seconds), "--verify", LOGS / "ledger", "--initiator", INITIATOR, "--json",
    ]
    log = open(LOGS / "bench.log", "a")
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)


@check("an orderly restart under load is a pause for our own initiator")
def own_initiator():
    running()
    server.volume("load", "256MiB")
    load = bench(8 * RESTARTS)
    took = []
    for _ in range(RESTARTS):
        time.sleep(4)
        begun = time.monotonic()
        server.stop()
        server.start()
        took.append(time.monotonic() - begun)
    text, _ = load.communicate(timeout=300)
    expect(load.returncode == 0, lambda: f"bench ended with {load.returncode}: {text[-1000:]}")
    report = json.loads(text)
    note(f"restarts took {', '.join(f'{t:.1f}' for t in took)} s; longest stall {report['longest_stall_ms']:.0f} ms")
    expect(report["errors"] == 0, lambda: f"errors: {report['error_kinds']}")
    expect(report["verify"]["fault_count"] == 0, lambda: f"faults: {report['verify']}")
    expect(report["reconnects"] >= RESTARTS, f"only {report['reconnects']} reconnects: the load was not there")


def guest_through(how, id, restart):
    """A guest works on a volume of its own while `restart` is called again and again."""
    need_guest()
    running()
    volume = f"guest-{how}"
    iqn, lun = server.volume(volume, "512MiB", hosts=(guest_name(id),))
    process = guest("pauses.sh", "10.77.0.1", iqn, lun, 15 * RESTARTS, id=id, seconds=240 + 30 * RESTARTS)
    end = time.monotonic() + 120
    while "load runs" not in process.log.read_text(errors="replace"):
        expect(process.poll() is None and time.monotonic() < end, lambda: process.log.read_text(errors="replace")[-1500:])
        time.sleep(0.2)
    for _ in range(RESTARTS):
        time.sleep(6)
        expect(process.poll() is None, "the guest ended before the last restart")
        restart()
    text = guest_ended(process)
    note(" ".join(line for line in text.splitlines() if "longest" in line))


@check("a Linux guest with default timers sees orderly restarts as pauses")
def orderly():
    def orderly_restart():
        server.stop()
        server.start()

    guest_through("orderly", 10, orderly_restart)


@check("a Linux guest with default timers sees kills as pauses")
def killed():
    def kill_and_start():
        server.kill()
        time.sleep(1)
        server.start()

    guest_through("killed", 11, kill_and_start)


if __name__ == "__main__":
    main()
