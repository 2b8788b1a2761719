#!/usr/bin/python3
"""Targets of several volumes: who sees what in them, and volumes mapped, unmapped, resized and protected under a live session"""

import threading
import time

import iscsi
from harness import KIB, MIB, CommandFailed, Server, check, expect, main

ALICE, BOB = "iqn.2024-01.lab.client:alice", "iqn.2024-01.lab.client:bob"
NO_UNIT, LUNS_CHANGED, MODE_CHANGED, CAPACITY_CHANGED = (5, 0x25, 0), (6, 0x3F, 0x0E), (6, 0x2A, 1), (6, 0x2A, 9)
WRITE_PROTECTED = (7, 0x27, 0)
REPORT_LUNS = bytes([0xA0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 0, 0])
WHOLE_INQUIRY, PAGE_83 = bytes([0x12, 0, 0, 0, 96, 0]), bytes([0x12, 1, 0x83, 4, 0, 0])
RTPG = bytes([0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0])

server = Server()


def refused(status, *arguments):
    """The command must end with this exit status."""
    try:
        server.cli(*arguments)
    except CommandFailed as error:
        expect(error.status == status, f"{' '.join(arguments)} ended with {error.status}, not {status}: {error.stderr}")
        return error.stderr
    return expect(False, f"{' '.join(arguments)} was not refused")


def farm(name, *volumes, hosts=(ALICE,)):
    """A target of new volumes, each granted to `hosts`; returns its iSCSI name."""
    if not server.alive():
        server.start()
        server.pool()
    server.cli("target", "create", name)
    for volume in volumes:
        server.volume(volume, "64MiB", hosts=hosts)
        server.cli("target", "map", name, volume)
    return server.json("target", "show", name)["iqn"]


class Host(iscsi.Session):
    """A session in which every LUN has been greeted."""

    def __init__(self, name, iqn, luns, port=1):
        super().__init__(server.host, server.port, name, iqn, isid=b"\x80\0\0\0\0" + bytes([port]))
        for lun in luns:
            self.ready(lun)

    def luns(self, through=0):
        data = self.command(REPORT_LUNS, read=2056, lun=through).data
        return [data[at + 1] for at in range(8, 8 + int.from_bytes(data[:4], "big"), 8)]

    def put(self, block, data, lun):
        status = self.write(block, data, lun=lun).status
        expect(status == iscsi.GOOD, f"a write to LUN {lun} ended with {status:#x}")

    def told(self, lun):
        return iscsi.sense_code(self.command(bytes(6), lun=lun))


def host_of(volume):
    return next(grant["host"] for grant in server.json("volume", "show", volume)["grants"])


@check("report_luns, multi_lun_targets: each host finds and sees what it was granted, under the target's numbers")
def who_sees_what():
    iqn = farm("farm", "a", "b")
    server.volume("c", "64MiB", hosts=(BOB,))
    server.cli("target", "map", "farm", "c", "--lun", "9")
    alice, bob = Host(ALICE, iqn, [0, 1]), Host(BOB, iqn, [9])
    expect(alice.luns() == [0, 1], lambda: f"alice sees {alice.luns()}")
    expect(bob.luns(through=9) == [9], lambda: f"bob sees {bob.luns(through=9)}")
    alice.put(0, b"a" * 512, lun=0)
    alice.put(0, b"b" * 512, lun=1)
    own = iscsi.Session(server.host, server.port, ALICE, server.address("b")[0])
    own.ready()
    expect(own.read(0, 1).data == b"b" * 512, "the volume's own target shows something else")
    listed = [one for one in server.json("session", "list") if one["target"] == iqn]
    expect(sorted((one["host"], one["volumes"]) for one in listed) == [("alice", ["a", "b"]), ("bob", ["c"])], f"{listed}")
    shown = server.json("session", "show", listed[0]["id"])
    connection, = shown["connections"]
    expect(shown["id"] == listed[0]["id"] and connection["address"] == shown["address"], f"{shown}")
    expect((connection["state"], connection["header_digest"]) == ("logged-in", False), f"{connection}")
    expect("logged in" in server.cli("session", "show", listed[0]["id"]), "the text says nothing of the connection")
    for session in (alice, bob, own):
        session.logout()
    refused(4, "session", "show", "999")
    discovery = iscsi.Session(server.host, server.port, BOB)
    names = str(discovery.send_targets())
    expect(iqn in names and server.address("c")[0] in names, f"bob was shown {names}")
    expect(server.address("a")[0] not in names, "bob was shown a volume that is alice's")
    discovery.logout()


@check("no_lun_zero: without LUN 0, REPORT LUNS and INQUIRY work there and all else says that no unit is there")
def no_lun_zero():
    bob = Host(BOB, server.json("target", "show", "farm")["iqn"], [9])
    expect(bob.luns(through=0) == [9], "REPORT LUNS through LUN 0")
    expect(bob.command(WHOLE_INQUIRY, read=96).data[0] == 0x7F, "INQUIRY shows a device where none is")
    expect(bob.told(0) == NO_UNIT, "TEST UNIT READY of LUN 0")
    bob.logout()


@check("a volume is the same disk through both its targets, but for the port; RTPG is the same on both")
def one_identity():
    iqn = server.json("target", "show", "farm")["iqn"]
    farm_path, own = Host(ALICE, iqn, [1]), iscsi.Session(server.host, server.port, ALICE, server.address("b")[0])
    own.ready()

    def descriptors(session, lun):
        page, at, found = session.command(PAGE_83, read=1024, lun=lun).data, 4, []
        while at < len(page):
            found.append(page[at:at + 4 + page[at + 3]])
            at += len(found[-1])
        return found

    one, other = descriptors(farm_path, 1), descriptors(own, 0)
    of_unit = [[d for d in found if d[1] >> 4 & 3 == 0] for found in (one, other)]
    expect(of_unit[0] and of_unit[0] == of_unit[1], "the unit's own descriptors differ")
    ports = [next(int.from_bytes(d[6:8], "big") for d in found if d[1] & 0x3F == 0x14) for found in (one, other)]
    expect(ports[0] != ports[1], "two ports have one relative identifier")
    listed = farm_path.command(RTPG, read=1024, lun=1).data
    expect(listed == own.command(RTPG, read=1024).data, "RTPG differs from path to path")
    expect(all(port.to_bytes(4, "big") in listed for port in ports), "RTPG leaves a port out")
    farm_path.logout()
    own.logout()


@check("a LUN mapped under a live session is announced, found and used; the other is not disturbed")
def mapped_live():
    iqn = farm("live", "one")
    alice = Host(ALICE, iqn, [0])
    server.volume("two", "64MiB", hosts=(ALICE,))
    server.cli("target", "map", "live", "two")
    expect(alice.told(0) == LUNS_CHANGED, "no REPORTED LUNS DATA HAS CHANGED")
    expect(alice.luns() == [0, 1], "the new LUN is not listed")
    alice.ready(1)
    alice.put(8, b"n" * 4096, lun=1)
    expect(alice.read(8, 8, lun=1).data == b"n" * 4096, "the new LUN")
    alice.logout()


@check("a LUN unmapped under load answers what is on its way, then is gone; the other works on")
def unmapped_live():
    iqn = server.json("target", "show", "live")["iqn"]
    loaded, alice = Host(ALICE, iqn, [0, 1], port=1), Host(ALICE, iqn, [0, 1], port=2)
    ends = []

    def load():
        while True:
            result = loaded.command(bytes([0x2A, 0, 0, 0, 0, 0, 0, 0, 8, 0]), b"w" * 4096, lun=1)
            if result.status != iscsi.GOOD:
                return ends.append(iscsi.sense_code(result))

    writer = threading.Thread(target=load)
    writer.start()
    time.sleep(0.3)
    server.cli("target", "unmap", "live", "two")
    writer.join(10)
    expect(ends == [NO_UNIT], f"the load ended with {ends}")
    expect(alice.told(1) == NO_UNIT, "the LUN still answers")
    expect(alice.told(0) == LUNS_CHANGED, "no REPORTED LUNS DATA HAS CHANGED")
    expect(alice.luns() == [0], "the LUN is still listed")
    alice.put(0, b"o" * 512, lun=0)
    loaded.told(0)
    expect(loaded.told(0) is None, "the session of the load")
    server.cli("target", "map", "live", "two")
    alice.told(0)
    alice.ready(1)
    expect(alice.read(0, 8, lun=1).data == b"w" * 4096, "what was written before is not there")
    alice.logout()
    loaded.logout()


@check("a LUN grows under a live session")
def grown_live():
    alice = Host(ALICE, server.json("target", "show", "live")["iqn"], [0, 1])
    server.cli("volume", "resize", "two", "128MiB")
    expect(alice.told(0) is None, "the other LUN was disturbed")
    expect(alice.told(1) == CAPACITY_CHANGED, "no CAPACITY DATA HAS CHANGED")
    expect(alice.capacity(1) == (128 * MIB // 512, 512), lambda: f"{alice.capacity(1)}")
    alice.logout()


@check("readonly_extent: a grant made read-only holds as soon as the command is done, and back again")
def protected_live():
    alice, host = Host(ALICE, server.json("target", "show", "live")["iqn"], [0, 1]), host_of("two")
    server.cli("volume", "grant", "two", host, "--read-only")
    expect(alice.told(1) == MODE_CHANGED, "no MODE PARAMETERS CHANGED")
    write = alice.command(bytes([0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0]), b"x" * 512, lun=1)
    expect(iscsi.sense_code(write) == WRITE_PROTECTED, "a write was let through")
    alice.read(0, 1, lun=1)
    alice.put(0, b"y" * 512, lun=0)
    server.cli("volume", "grant", "two", host)
    expect(alice.told(1) == MODE_CHANGED, "no MODE PARAMETERS CHANGED")
    alice.put(0, b"x" * 512, lun=1)
    server.cli("volume", "rename", "two", "zwei")
    expect(alice.told(1) is None, "a new name is none of the host's business")
    server.cli("volume", "rename", "zwei", "two")
    alice.logout()


@check("target_lun_extent_modify: a number that is taken is refused, a volume keeps its number until it is unmapped")
def numbers():
    refused(5, "target", "map", "live", "a", "--lun", "1")
    refused(5, "target", "map", "live", "two", "--lun", "4")
    server.cli("target", "map", "live", "a", "--lun", "255")
    server.cli("target", "unmap", "live", "a")
    expect([v["lun"] for v in server.json("target", "show", "live")["volumes"]] == [0, 1], "numbers moved")
    expect(server.json("volume", "show", "two")["targets"] == [{"target": "live", "lun": 1}], "the volume knows not where it is")
    expect("live as LUN 1" in server.cli("volume", "show", "two"), "the text says nothing of the target")
    again = server.json("target", "create", "live")
    expect(again["outcome"] == "unchanged", "a target of a name that is there was made anew")


@check("delete_extents: a volume in use is deleted with --force only; its LUN goes, the session and its other LUN stay")
def deleted():
    alice = Host(ALICE, server.json("target", "show", "live")["iqn"], [0, 1])
    message = refused(6, "volume", "delete", "two")
    expect(ALICE in message, f"who uses it is not said: {message}")
    expect(alice.told(1) is None, "a refused deletion disturbed the session")
    server.cli("volume", "delete", "two", "--force")
    expect(alice.told(0) == LUNS_CHANGED, "no REPORTED LUNS DATA HAS CHANGED")
    expect(alice.told(1) == NO_UNIT, "the deleted volume answers")
    alice.put(0, b"s" * 4 * KIB, lun=0)
    refused(6, "target", "delete", "live")
    alice.logout()
    server.cli("target", "delete", "live")


@check("targets outlive kill -9, with their names and numbers")
def kept():
    before = server.json("target", "list")
    server.kill()
    server.start()
    after = server.json("target", "list")
    for target in before + after:
        target.pop("sessions")
    expect(before == after and before, f"{before} became {after}")
    alice = Host(ALICE, after[0]["iqn"], [0, 1])
    expect(alice.read(0, 1, lun=0).data == b"a" * 512, "LUN 0 is another volume")
    alice.logout()
    server.stop()


if __name__ == "__main__":
    main()
