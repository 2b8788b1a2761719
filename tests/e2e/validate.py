#!/usr/bin/env python3
"""`palisade validate`: passes against Palisade over two portals, and finds what tgt lacks."""

import contextlib
import json
import signal
import socket
import subprocess
import threading
import time

import iscsi
from harness import (
    BINARY, CommandFailed, Failure, LOGS, MIB, Server, check, expect, free_port, main, need, note, palisade, scratch, _die_with_parent,
)

ANYONE = "*"
TGT_IQN = "iqn.2026-11.local.peer:lun"
# Groups of the table, and what a run needs to be permitted.
WRITING = ["--destructive", "--range", f"0:{160 * MIB // 512}"]


class Tgt:
    """Debian's tgtd on ports of its own: one target, two units, two portals."""

    def __init__(self):
        self.control = str(free_port() % 32767 + 1)
        self.ports = [free_port(), free_port()]
        self.log = open(LOGS / "tgtd.log", "w")
        command = ["tgtd", "-C", self.control, "-f", "--iscsi", f"portal=127.0.0.1:{self.ports[0]}"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, preexec_fn=_die_with_parent)
        self.configure()

    def configure(self):
        end = time.monotonic() + 20
        while not self.try_admin("--op", "new", "--mode", "target", "--tid", "1", "-T", TGT_IQN):
            expect(time.monotonic() < end and self.process.poll() is None, "tgtd does not start")
            time.sleep(0.1)
        self.admin("--op", "new", "--mode", "portal", "--param", f"portal=127.0.0.1:{self.ports[1]}")
        for lun in (1, 2):
            disk = scratch() / f"tgt{lun}.disk"
            with open(disk, "wb") as file:
                file.truncate(256 * MIB)
            self.admin("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", str(lun), "-b", str(disk))
        self.admin("--op", "update", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "--params", "thin_provisioning=1")
        for key in ("HeaderDigest", "DataDigest"):
            self.admin("--op", "update", "--mode", "target", "--tid", "1", "-n", key, "-v", "CRC32C,None")
        self.admin("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")

    def try_admin(self, *arguments):
        command = ["tgtadm", "-C", self.control, "--lld", "iscsi", *arguments]
        return subprocess.run(command, stdout=self.log, stderr=self.log).returncode == 0

    def admin(self, *arguments):
        expect(self.try_admin(*arguments), f"tgtadm {' '.join(arguments)}")

    def url(self, portal=0, lun=1):
        return f"iscsi://127.0.0.1:{self.ports[portal]}/{TGT_IQN}/{lun}"


_running = {}


def tgt():
    need("tgtd", "tgtadm")
    if "tgt" not in _running:
        _running["tgt"] = Tgt()
    return _running["tgt"]


def server():
    """Palisade with two portals and two volumes that any initiator of this machine may use."""
    if "server" not in _running:
        second = free_port()
        running = Server(name="validated", arguments=["--portal", f"127.0.0.1:{second}"])
        running.start()
        running.pool(size="2GiB")
        for name in ("a", "b"):
            running.volume(name, "256MiB", hosts=(ANYONE,))
        running.portals = [running.portal, f"127.0.0.1:{second}"]
        _running["server"] = running
    return _running["server"]


def urls(running, name="a"):
    iqn, lun = running.address(name)
    return [f"iscsi://{portal}/{iqn}/{lun}" for portal in running.portals]


def validate(*arguments, name, fails=False):
    """Runs `palisade validate`, keeps both reports in the logs, returns the verdicts by id and the report."""
    files = LOGS / f"{name}.json", LOGS / f"{name}.html"
    try:
        text = palisade("validate", *arguments, "--json-file", files[0], "--html", files[1], timeout=600)
        status = 0
    except CommandFailed as error:
        text, status = error.stdout, error.status
        expect(error.status == 17, f"status {error.status}: {error.stderr}")
    (LOGS / f"{name}.txt").write_text(text)
    report = json.loads(files[0].read_text())
    failed = [f"{c['id']}: {'; '.join(c['details'])}" for c in report["checks"] if c["verdict"] == "failed"]
    note(f"{name}: {report['counts']}")
    expect((status != 0) == bool(failed), f"status {status} with {len(failed)} failed checks")
    expect(fails or not failed, lambda: "\n     ".join(["failed:", *failed]))
    return {c["id"]: c["verdict"] for c in report["checks"]}, report


@check("without permission nothing is written or reserved, and Palisade passes")
def read_only():
    running = server()
    before = running.json("volume", "show", "a")["used_bytes"]
    verdicts, report = validate(*urls(running), "--only", "identity,paths,commands,thin,vaai,odx,iscsi", name="read-only")
    sent = {e["command"] for c in report["checks"] for e in c["exchanges"]}
    expect(not any(c.startswith("PERSISTENT RESERVE OUT") for c in sent), f"reserved: {sent}")
    expect(running.json("volume", "show", "a")["used_bytes"] == before, "the volume's used space changed")
    expect(verdicts["vaai.write-same"] == "skipped", f"{verdicts}")
    expect(verdicts["identity.coherence"] == "passed", f"{verdicts}")


@check("what ESXi, HLK and multipath want holds on Palisade over two portals")
def writing():
    running = server()
    groups = "identity,paths,commands,vaai,thin,odx,iscsi"
    verdicts, _ = validate(*urls(running), "--also", urls(running, "b")[0], "--only", groups, *WRITING, name="palisade")
    for wanted in ("vaai.ats-concurrent", "vaai.write-same", "vaai.unmap", "thin.deallocation", "odx.invalid", "odx.ended", "iscsi.digests", "paths.states", "paths.same-data"):
        expect(verdicts[wanted] in ("passed", "warning"), f"{wanted}: {verdicts[wanted]}")


@check("the storage part of cluster validation passes on Palisade")
def cluster():
    running = server()
    both = [*urls(running), "--also", urls(running, "b")[0], "--only", "cluster"]
    nodes = [word for n in (1, 2, 3) for word in ("--initiator", f"iqn.2024-01.lab.client:node{n}")]
    verdicts, _ = validate(*both, *nodes, "--reservations", "--nexuses", "6", *WRITING, name="cluster")
    missing = [name for name, verdict in verdicts.items() if verdict == "skipped"]
    expect(not missing, f"skipped: {missing}")


@check("a run against tgt finds what tgt lacks")
def foreign():
    peer = tgt()
    both = [peer.url(0), peer.url(1), "--also", peer.url(0, 2)]
    verdicts, report = validate(*both, "--reservations", *WRITING, name="tgt", fails=True)
    # What its source says it has not got, or does otherwise.
    wanted = {
        "cluster.pr-release": "failed",  # unit attentions to the wrong types of reservation
        "cluster.pr-preempt": "failed",  # 2Ah/03h instead of 05h
        "cluster.pr-preempt-abort": "failed",  # not there
        "cluster.pr-nexus-loss": "failed",  # a registration is the session's, not the port's
        "cluster.pr-full-status": "not-supported",
        "vaai.ats-match": "not-supported",
        "vaai.xcopy": "not-supported",
        "odx.copy": "not-supported",
        "paths.same-groups": "not-supported",
        "cluster.pr-register": "passed",
        "cluster.multiple-arbitration": "passed",
        "vaai.write-same": "passed",
        "iscsi.digests": "passed",
    }
    differ = {name: verdicts.get(name) for name, verdict in wanted.items() if verdicts.get(name) != verdict}
    expect(not differ, f"otherwise than known: {differ}")
    expect(not report["left_behind"], f"left behind: {report['left_behind']}")
    html = (LOGS / "tgt.html").read_text()
    expect("5f 05 05 00 00 00 00 00 18 00" in html and "<script" not in html, "the HTML report lacks the CDBs")


@check("paths in standby, unavailable or not optimized are found to be as they say")
def standby():
    other, port = Server(name="standby"), free_port()
    other.start()
    other.pool(size="512MiB", ram=True)
    other.volume("a", "64MiB", hosts=(ANYONE,))
    other.cli("portal", "add", f"127.0.0.1:{port}", "--group", "2")
    other.portals = [other.portal, f"127.0.0.1:{port}"]
    for state in ("standby", "unavailable", "non-optimized"):
        other.cli("portal", "set", "--group", "2", "--state", state)
        verdicts, report = validate(*urls(other), "--only", "paths", name=f"paths-{state}")
        expect(verdicts["paths.states"] == "passed" and verdicts["paths.same-groups"] == "passed", f"{state}: {verdicts}")
    other.kill()


def onlooker(peer):
    """A session with tgt's unit from a host that is none of `palisade validate`'s."""
    session = iscsi.Session("127.0.0.1", peer.ports[0], "iqn.2024-01.lab.client:somebody-else", TGT_IQN)
    session.ready(lun=1)
    return session


class Holding:
    """A proxy before a portal, which keeps back the answer to the N-th registration that passes until it is let go."""

    def __init__(self, port, number):
        self.target, self.left = port, number
        self.reached, self.let_go = threading.Event(), threading.Event()
        self.let_go.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, far = self.listener.accept()[0], socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self.pump, args=(near, far, self.look), daemon=True).start()
                threading.Thread(target=self.pump, args=(far, near, lambda *_: self.let_go.wait()), daemon=True).start()

    def pump(self, source, sink, first):
        """Passes whole PDUs on, each after `first` has seen it."""
        with contextlib.suppress(OSError):
            while header := source.recv(48, socket.MSG_WAITALL):
                length = header[4] * 4 + (int.from_bytes(header[5:8], "big") + 3 & ~3)
                data = source.recv(length, socket.MSG_WAITALL) if length else b""
                first(header, data)
                sink.sendall(header + data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def look(self, header, data):
        command = header[0] & 0x3F == iscsi.SCSI_COMMAND and header[32] == iscsi.PERSISTENT_RESERVE_OUT
        if command and header[33] in (iscsi.REGISTER, iscsi.REGISTER_AND_IGNORE) and any(data[8:16]):
            self.left -= 1
            if self.left == 0:
                self.let_go.clear()
                self.reached.set()


@check("an interrupted run leaves no registration behind")
def interrupted():
    peer = tgt()
    other = onlooker(peer)
    for number in (1, 3, 6):
        # The signal comes when the registration has been made and its answer not been seen.
        path = Holding(peer.ports[0], number)
        url, report = f"iscsi://127.0.0.1:{path.port}/{TGT_IQN}/1", LOGS / f"interrupted{number}.json"
        command = [BINARY, "validate", url, "--only", "cluster", "--reservations", "--json-file", report]
        run = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        expect(path.reached.wait(60), f"no registration number {number}")
        end = time.monotonic() + 60
        while not other.registered(lun=1):
            expect(time.monotonic() < end, "the registration is not made")
        run.send_signal(signal.SIGINT)
        path.let_go.set()
        _, errors = run.communicate(timeout=60)
        expect(run.returncode in (0, 17), f"status {run.returncode}: {errors}")
        expect("interrupted" in report.read_text(), "the run was not interrupted")
        expect(other.registered(lun=1) == [], "keys are left")
    other.logout()


@check("a unit that somebody else has registered with is left alone, unless forced")
def in_use():
    peer = tgt()
    other, key = onlooker(peer), 0x5E5E
    status = other.reserve_out(iscsi.REGISTER, new_key=key, lun=1)
    expect(status == iscsi.GOOD, f"registering ended with {status:#x}")
    command = [peer.url(0), peer.url(1), "--reservations", "--only", "cluster"]
    try:
        palisade("validate", *command)
        raise Failure("the run did not refuse")
    except CommandFailed as error:
        expect(error.status == 6 and "registered with the logical unit" in error.stderr, f"{error}")
    expect(other.registered(lun=1) == [key], "the registration was touched")
    validate(*command, "--force", name="forced", fails=True)
    expect(other.registered(lun=1) == [], "keys are left")
    other.logout()


if __name__ == "__main__":
    main()
