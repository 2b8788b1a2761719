#!/usr/bin/python3
"""Garbage on the portal: random, cut, oversized and mutated PDUs, and ten thousand half-open connections"""

import contextlib
import os
import random
import socket
import struct
import threading
import time

import iscsi
from harness import INITIATOR, KIB, MIB, Server, check, expect, main, note, raise_file_limit

HALF_OPEN = 10_000
# More than this above what it was is a leak. Allocators keep some memory: hence the second round of everything.
RSS_SLACK, FILE_SLACK = 24 * MIB, 4
BESIDE_SECONDS = 5.0

server = Server()
chance = random.Random(int(os.environ.get("PALISADE_SEED", "1")))
victim = {}


class Beside(threading.Thread):
    """A session that writes and reads back all the time, and must notice nothing."""

    def __init__(self):
        super().__init__(daemon=True)
        iqn, _ = server.volume("beside", "64MiB")
        self.session = iscsi.Session(server.host, server.port, INITIATOR, iqn, seconds=60)
        self.session.ready()
        self.error, self.count, self.longest, self.over = None, 0, 0.0, False

    def run(self):
        own = random.Random(2)
        try:
            while not self.over:
                begun = time.monotonic()
                data, block = own.randbytes(8 * KIB), own.randrange(0, 100_000, 16)
                status = self.session.write(block, data).status
                back = self.session.read(block, 16)
                if status or back.status or back.data != data:
                    raise iscsi.Closed(f"status {status:#x}, {back.status:#x}, same data: {back.data == data}")
                self.longest = max(self.longest, time.monotonic() - begun)
                self.count += 1
                time.sleep(0.02)
        except Exception as error:
            self.error = error

    def undisturbed(self):
        before = self.count
        end = time.monotonic() + 10
        while self.count == before and self.error is None and time.monotonic() < end:
            time.sleep(0.05)
        expect(self.error is None, lambda: f"the session beside: {self.error}")
        expect(self.count > before, "the session beside stands still")
        expect(self.longest < BESIDE_SECONDS, f"the session beside waited {self.longest:.1f} s for 8 KiB")


def healthy():
    expect(server.alive(), lambda: f"the server ended with {server.process.returncode}:\n{server.tail()}")
    victim["beside"].undisturbed()


def connection():
    return iscsi.Connection(server.host, server.port, seconds=5)


def session():
    made = iscsi.Session(server.host, server.port, INITIATOR, victim["iqn"], seconds=5)
    made.ready()
    return made


def throw(data, keep=None):
    """Sends bytes on a new connection, reads what comes for a moment, and closes it."""
    with contextlib.suppress(OSError, iscsi.Closed):
        made = keep or connection()
        try:
            made.send(data)
            made.socket.settimeout(0.02)
            made.socket.recv(65536)
        finally:
            made.close()


def mutations(data, length=48, each=4):
    """The PDU with each byte of its header changed in several ways, one at a time."""
    for at in range(min(length, len(data))):
        values = {0, 0xFF, data[at] ^ 1, data[at] ^ 0x80, chance.randrange(256)} - {data[at]}
        for value in chance.sample(sorted(values), min(each, len(values))):
            yield data[:at] + bytes([value]) + data[at + 1:]


def login_pdu(pairs=None):
    made = iscsi.Session.__new__(iscsi.Session)
    made.initiator, made.target, made.isid = INITIATOR, victim["iqn"], b"\x80" + os.urandom(5)
    made.tag, made.cmd_sn, made.exp_stat_sn, made.tsih = 1, 1, 0, 0
    return made.login_pdu(0, 1, made.security_pairs() if pairs is None else pairs)


@check("it starts, and a session beside works", vital=True)
def start():
    raise_file_limit(HALF_OPEN + 1000)  # the server inherits it
    server.start()
    server.pool(size="512MiB")
    victim["iqn"], _ = server.volume("victim", "64MiB")
    victim["beside"] = Beside()
    victim["beside"].start()
    healthy()


def random_bytes(count=400):
    for number in range(count):
        data = chance.randbytes(chance.choice((1, 7, 47, 48, 49, 500, 4096, 60_000)))
        if number % 2:  # a plausible opcode, so that more than the first byte is looked at
            data = bytes([chance.choice((0x43, 0x40, 0x01, 0x04, 0x05, 0x06, 0x10, 0x02))]) + data[1:]
        throw(data)
    healthy()


def truncated():
    data = login_pdu()
    for length in [*range(0, 60), *range(60, len(data), 17)]:
        throw(data[:length])
    for length in (1, 20, 47, 48, 100, 5000):
        with contextlib.suppress(OSError, iscsi.Closed):
            made = session()
            made.next_tag()
            cut = made.command_pdu(struct.pack(">BBQIBB", 0x8A, 0, 0, 16, 0, 0), bytes(8192), 0, 0, bytes(8192))[:length]
            throw(cut, keep=made)
    healthy()


def oversized():
    data = login_pdu()
    for length in (0xFFFFFF, 0x800000, 0x10000, 8193):
        throw(data[:5] + length.to_bytes(3, "big") + data[8:48] + bytes(min(length, 1 << 20)))
    throw(data[:4] + b"\xff" + data[5:48] + bytes(255 * 4) + data[48:])
    throw(login_pdu({f"X-key{n}": "v" * 200 for n in range(400)}))
    throw(login_pdu({"InitiatorName": "x" * 5000}))
    for length in (0xFFFFFF, 1 << 20, 262_145):
        with contextlib.suppress(OSError, iscsi.Closed):
            made = session()
            made.next_tag()
            pdu = made.command_pdu(struct.pack(">BBQIBB", 0x8A, 0, 0, 16, 0, 0), bytes(8192))
            throw(pdu[:5] + length.to_bytes(3, "big") + pdu[8:48] + bytes(min(length, 1 << 20)), keep=made)
    # A command that claims four GiB of data has to cost nothing until data comes.
    for cdb in (struct.pack(">BBQIBB", 0x8A, 0, 0, 0xFFFFFFFF, 0, 0), struct.pack(">BBQIBB", 0x88, 0, 0, 0xFFFFFFFF, 0, 0)):
        with contextlib.suppress(OSError, iscsi.Closed):
            made = session()
            made.next_tag()
            pdu = bytearray(made.command_pdu(cdb, b"x" if cdb[0] == 0x8A else b"", 1 if cdb[0] == 0x88 else 0))
            pdu[20:24] = b"\xff\xff\xff\xff"
            throw(bytes(pdu), keep=made)
    healthy()


def login_fields():
    data = login_pdu()
    for changed in mutations(data):
        throw(changed)
    for at in range(48, len(data)):
        throw(data[:at] + bytes([data[at] ^ chance.choice((1, 0x20, 0x80, 0xFF))]) + data[at + 1:])
    for pairs in (
        {"InitiatorName": INITIATOR}, {}, {"": ""}, {"=": "="}, {"InitiatorName": ""}, {"AuthMethod": "CHAP"}, {"AuthMethod": ""},
        {"InitiatorName": INITIATOR, "SessionType": "Neither"}, {"InitiatorName": INITIATOR, "TargetName": "iqn.x"},
        {"InitiatorName": "\u00e4\u20ac", "SessionType": "Discovery"},
    ):
        throw(login_pdu(pairs))
    throw(data[:48] + b"no equals sign" + bytes(len(data) - 62))
    throw(data[:48] + b"\xff\xfe" * ((len(data) - 48) // 2))
    for key, values in {
        "MaxRecvDataSegmentLength": ("0", "511", "16777216", "-1", "0x", "9" * 300, "abc", ""),
        "MaxBurstLength": ("0", "99999999999"), "FirstBurstLength": ("0", "16777215"), "MaxOutstandingR2T": ("0", "65536"),
        "HeaderDigest": ("", "None,", ",,,", "CRC64"), "ErrorRecoveryLevel": ("3", "2"), "MaxConnections": ("0", "65535"),
        "InitialR2T": ("Maybe",), "DefaultTime2Wait": ("-5", "3601"), "TaskReporting": ("None",), "Nonsense": ("1",),
    }.items():
        for value in values:
            with contextlib.suppress(OSError, iscsi.Closed, iscsi.LoginFailed):
                made = iscsi.Session(server.host, server.port, INITIATOR, victim["iqn"], {key: value}, seconds=5)
                made.ready()
                made.logout()
    healthy()


def each_mutation(build):
    """Sends each mutation of a PDU on a session of its own that is in order."""
    probe = session()
    probe.next_tag()
    for changed in mutations(build(probe), each=2):
        with contextlib.suppress(OSError, iscsi.Closed, iscsi.LoginFailed):
            throw(changed, keep=session())
    probe.logout()


def command_fields():
    read = struct.pack(">BBQIBB", 0x88, 0, 0, 16, 0, 0)
    write = struct.pack(">BBQIBB", 0x8A, 0, 0, 16, 0, 0)

    def with_fields(opcode, flags, data=b"", lun=0):
        return lambda s: iscsi.pdu(opcode, flags, data, lun, s.tag, struct.pack(">III", iscsi.NO_TAG, s.cmd_sn, s.exp_stat_sn), immediate=True)

    builders = [
        lambda s: s.command_pdu(read, read=8192), lambda s: s.command_pdu(write, bytes(8192), immediate_data=bytes(4096)),
        with_fields(iscsi.NOP_OUT, 0x80, b"ping"), with_fields(iscsi.TEXT, 0x80, b"SendTargets=All\0"),
        with_fields(iscsi.TASK_MANAGEMENT, 0x82), with_fields(iscsi.LOGOUT, 0x80), with_fields(0x10, 0x80),
        lambda s: iscsi.pdu(iscsi.DATA_OUT, 0x80, bytes(512), 0, s.tag, struct.pack(">III", 77, 0, s.exp_stat_sn)),
    ]
    for build in builders:
        each_mutation(build)
        healthy()


def data_out_fields():
    """Data-Out PDUs that are changed on the way while R2Ts ask for them."""
    for at in range(0, 48, 2):
        with contextlib.suppress(OSError, iscsi.Closed, iscsi.LoginFailed):
            made = session()
            made.answers["ImmediateData"] = "No"
            made.socket.settimeout(0.3)

            def tamper(data, at=at):
                if data[0] & 0x3F == iscsi.DATA_OUT:
                    return data[:at] + bytes([data[at] ^ chance.choice((1, 0x40, 0xFF))]) + data[at + 1:]
                return data

            made.tamper = tamper
            made.write(0, bytes(256 * KIB))
            made.close()
    healthy()


ROUNDS = [random_bytes, truncated, oversized, login_fields, command_fields, data_out_fields]
NAMES = {
    random_bytes: "random bytes", truncated: "PDUs cut off at any byte", oversized: "PDUs that claim too much",
    login_fields: "every byte and key of a login changed", command_fields: "every byte of commands and other requests changed",
    data_out_fields: "every field of asked-for data changed",
}
for throwing in ROUNDS:
    check(f"{NAMES[throwing]} neither stop it nor disturb the session beside")(throwing)


def settled(files, seconds=60):
    """Waits until the server has no more open files than `files`."""
    end = time.monotonic() + seconds
    while server.open_files() > files + FILE_SLACK:
        expect(time.monotonic() < end, f"{server.open_files()} open files, {files} before, after {seconds} s")
        time.sleep(0.2)


@check("it has leaked neither memory nor files after all of that again")
def no_leak():
    settled(40)
    files, memory = server.open_files(), server.rss()
    for throwing in ROUNDS:
        throwing()
    settled(files)
    grown = server.rss() - memory
    note(f"{memory / MIB:.0f} MiB after the first round, {grown / MIB:+.1f} MiB after the second")
    expect(grown < RSS_SLACK, f"{grown / MIB:.1f} MiB more memory after the second round")


@check(f"{HALF_OPEN} half-open connections cost little, let others in, and leave nothing behind")
def half_open():
    files, memory = server.open_files(), server.rss()
    data, held, refused = login_pdu(), [], 0
    try:
        for number in range(HALF_OPEN):
            try:
                made = socket.create_connection((server.host, server.port), 10)
                held.append(made)
                made.sendall((b"", data[:1], data[:30], data[:48], data[:-5])[number % 5])
            except OSError:
                refused += 1
        peak = server.rss()
        note(f"{len(held)} held, {refused} refused; {(peak - memory) / MIB:.0f} MiB more, {server.open_files() - files} files more")
        healthy()
        expect(peak - memory < 512 * MIB, f"{(peak - memory) / MIB:.0f} MiB for connections that never logged in")
        begun = time.monotonic()
        while True:
            try:
                made = session()
                break
            except (OSError, iscsi.Closed, iscsi.LoginFailed) as error:
                expect(time.monotonic() - begun < 60, f"no login got through within a minute: {error}")
                time.sleep(0.5)
        note(f"a host got in after {time.monotonic() - begun:.1f} s")
        expect(made.read(0, 8).status == iscsi.GOOD, "no read beside them")
        made.logout()
    finally:
        for made in held:
            made.close()
    settled(files)
    time.sleep(1)
    grown = server.rss() - memory
    note(f"{grown / MIB:+.1f} MiB once they are gone")
    expect(grown < 3 * RSS_SLACK, f"{grown / MIB:.1f} MiB kept after they were closed")
    healthy()


@check("it still ends in order, and its log has no panic")
def end():
    healthy()
    victim["beside"].over = True
    victim["beside"].join(10)
    note(f"the session beside wrote and read {victim['beside'].count} times, {victim['beside'].longest:.2f} s at most")
    server.stop()
    expect("panicked" not in server.log.read_text(errors="replace"), "a panic is in the server's log")


if __name__ == "__main__":
    main()
