#!/usr/bin/python3
"""Persistent reservations: what outlives kill -9, who is shut out under load, what an administrator sees and clears"""

import socket
import threading
import time

import iscsi
from harness import KIB, Server, check, expect, main, note
from iscsi import CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER, REGISTER_AND_IGNORE, RELEASE, RESERVE

NODE_A, NODE_B = "iqn.2024-01.lab.client:node-a", "iqn.2024-01.lab.client:node-b"
ISID = {NODE_A: b"\x80\0\0\0\0\x0a", NODE_B: b"\x80\0\0\0\0\x0b"}
KEY = {NODE_A: 0xA, NODE_B: 0xB}
TYPES = (1, 3, 5, 6, 7, 8)
ALL_REGISTRANTS = (7, 8)
PREEMPTED, UNREGISTERED = (6, 0x2A, 3), (6, 0x2A, 5)

server = Server()


def running(volume):
    """The volume, granted to both nodes; returns its target name."""
    if not server.alive():
        server.start()
        server.pool()
    return server.volume(volume, "64MiB", hosts=(NODE_A, NODE_B))[0]


class Node(iscsi.Session):
    """One node of a cluster: always the same initiator port, with its own key."""

    def __init__(self, name, iqn):
        super().__init__(server.host, server.port, name, iqn, isid=ISID[name], seconds=60)
        self.key = KEY[name]
        self.ready()

    def out(self, action, kind=0, key=None, new_key=0, aptpl=False):
        """PERSISTENT RESERVE OUT; returns its status."""
        return self.reserve_out(action, kind, self.key if key is None else key, new_key, aptpl)

    def register(self, aptpl=False):
        status = self.out(REGISTER_AND_IGNORE, new_key=self.key, aptpl=aptpl)
        expect(status == iscsi.GOOD, f"registering ended with {status:#x}")

    def held(self):
        """Key and type of the reservation, or None."""
        data = self.command(bytes([0x5E, 1, 0, 0, 0, 0, 0, 0, 24, 0]), read=24).data
        return (int.from_bytes(data[8:16], "big"), data[21] & 15) if len(data) >= 24 else None

    def told(self):
        """The unit attention that the next command ends with, or None."""
        return iscsi.sense_code(self.command(bytes(6)))


def kill_and_start():
    server.kill()
    server.start()


def stop_and_start():
    server.stop()
    server.start()


@check("all types of reservations outlive kill -9 right after the answer, and orderly restarts")
def kept():
    iqn = running("kept")
    for number, kind in enumerate(TYPES):
        node_a, node_b = Node(NODE_A, iqn), Node(NODE_B, iqn)
        node_a.register(aptpl=True)
        node_b.register(aptpl=True)
        expect(node_a.out(RESERVE, kind) == iscsi.GOOD, "RESERVE")
        expect(node_b.out(REGISTER, new_key=0, aptpl=True) == iscsi.GOOD, "B unregisters")
        (stop_and_start if number % 2 else kill_and_start)()
        node_b, node_a = Node(NODE_B, iqn), Node(NODE_A, iqn)
        expected = (0 if kind in ALL_REGISTRANTS else node_a.key, kind)
        expect(node_b.held() == expected and node_b.registered() == [node_a.key], f"type {kind}: {node_b.held()}, {node_b.registered()}")
        expect(node_b.write(0, bytes(512)).status == iscsi.RESERVATION_CONFLICT, f"type {kind}: B wrote")
        expect(node_a.write(0, bytes(512)).status == iscsi.GOOD, f"type {kind}: A could not write")
        expect(node_a.out(CLEAR) == iscsi.GOOD, "CLEAR")
        kill_and_start()
        expect(Node(NODE_B, iqn).registered() == [], "what was cleared came back")


@check("registrations without APTPL go with the daemon, the last REGISTER decides")
def not_kept():
    iqn = running("volatile")
    node_a, node_b = Node(NODE_A, iqn), Node(NODE_B, iqn)
    node_a.register(aptpl=True)
    node_a.out(RESERVE, 5)
    node_b.register(aptpl=False)
    kill_and_start()
    node_b = Node(NODE_B, iqn)
    expect(node_b.held() is None and node_b.registered() == [], f"{node_b.held()}, {node_b.registered()}")
    expect(node_b.write(0, bytes(512)).status == iscsi.GOOD, "nobody is shut out")


@check("nobody comes by what was registered through a deleted target: not by a later one of its number, not after kill -9")
def deleted_target():
    iqn = running("shared")
    paths = []
    for name in ("farm", "barn"):
        server.cli("target", "create", name)
        server.cli("target", "map", name, "shared")
        paths.append(server.json("target", "show", name)["iqn"])
        node_a = Node(NODE_A, paths[-1])
        if name == "farm":
            node_b = Node(NODE_B, iqn)
            node_a.register(aptpl=True)
            node_b.register(aptpl=True)
            expect(node_a.out(RESERVE, 5) == iscsi.GOOD, "RESERVE")
            server.cli("target", "unmap", "farm", "shared")
            server.cli("target", "map", "farm", "shared")
            node_a = Node(NODE_A, paths[-1])
            expect(node_a.write(0, bytes(512)).status == iscsi.GOOD, "the same target again is the same path")
            server.cli("target", "delete", "farm", "--force")
    for how in ("live", "after kill -9"):
        expect(node_a.write(0, bytes(512)).status == iscsi.RESERVATION_CONFLICT, f"{how}: A wrote through another target")
        expect(node_a.out(RELEASE, 5) == iscsi.RESERVATION_CONFLICT, f"{how}: A has the registration")
        expect(node_a.held() == (node_a.key, 5), f"{how}: the reservation ended: {node_a.held()}")
        if how == "live":
            kill_and_start()
            node_a = Node(NODE_A, paths[-1])
    node_b = Node(NODE_B, iqn)
    expect(node_b.out(PREEMPT, 5, new_key=node_a.key) == iscsi.GOOD, "B preempts")
    expect(node_b.registered() == [node_b.key] and node_b.held() == (node_b.key, 5), f"{node_b.registered()}")


@check("PREEMPT AND ABORT under write load: nothing of the victim reaches the volume after the answer")
def fenced():
    iqn = running("fenced")
    node_a, node_b = Node(NODE_A, iqn), Node(NODE_B, iqn)
    node_a.register()
    counts = []
    for round in range(20):
        node_b.register()
        expect(node_b.told() is None, "nothing is pending")
        node_b.out(RESERVE, 5)
        mark = bytes([round + 1])
        ended, written = [], [0]

        def load():
            while True:
                try:
                    result = node_b.write(written[0] % 64 * 64, mark * 32 * KIB)
                except (OSError, iscsi.Closed):
                    return
                if result.status != iscsi.GOOD:
                    ended.append(result)
                    return
                written[0] += 1

        thread = threading.Thread(target=load, daemon=True)
        thread.start()
        time.sleep(0.05)
        status = node_a.out(PREEMPT_AND_ABORT, 5, new_key=node_b.key)
        expect(status == iscsi.GOOD, f"PREEMPT AND ABORT ended with {status:#x}")
        expect(node_a.write(0, bytes(32 * KIB)).status == iscsi.GOOD, "the winner writes")
        # A command that was aborted is never answered (TAS is 0): the victim's session may wait for it for ever.
        thread.join(0.5)
        if thread.is_alive():
            node_b.socket.shutdown(socket.SHUT_RDWR)
            thread.join()
            node_b = Node(NODE_B, iqn)
        else:
            expect(iscsi.sense_code(ended[0]) == UNREGISTERED, lambda: f"the victim was told {iscsi.sense_code(ended[0])}")
            node_b.ready()
        expect(node_a.read(0, 64).data == bytes(32 * KIB), "the victim wrote after the answer")
        status = node_b.write(0, bytes(512)).status
        expect(status == iscsi.RESERVATION_CONFLICT, f"the victim's next write ended with {status:#x}")
        counts.append(written[0])
        expect(node_a.out(RELEASE, 5) == iscsi.GOOD, "RELEASE")
    note(f"{sum(counts)} writes of the victims before they were shut out")
    expect(sum(counts) > 20, "there was no load")


@check("an administrator sees reservations and clears them; hosts hear of it, and they stay cleared")
def administered():
    iqn = running("seen")
    text = server.cli("volume", "reservations", "seen")
    expect("No host has reserved" in text, text)
    node_a, node_b = Node(NODE_A, iqn), Node(NODE_B, iqn)
    node_a.register(aptpl=True)
    node_b.register(aptpl=True)
    node_a.out(RESERVE, 3)
    node_b.logout()
    seen = server.json("volume", "reservations", "seen")
    who = {r["initiator"]: (r["key"], r["holder"], r["connected"]) for r in seen["registrations"]}
    expect(who[NODE_A] == (f"{KEY[NODE_A]:#018x}", True, True), lambda: f"{seen}")
    expect(who[NODE_B][1:] == (False, False), lambda: f"{seen}")
    expect((seen["kind"], seen["persistent"]) == ("Exclusive Access", True), lambda: f"{seen}")
    text = server.cli("volume", "reservations", "seen")
    expect(NODE_A in text and "Exclusive Access" in text, text)
    node_b = Node(NODE_B, iqn)
    expect(node_b.read(0, 1).status == iscsi.RESERVATION_CONFLICT, "B is shut out")
    server.cli("volume", "reservations", "seen", "--clear")
    expect(node_b.told() == PREEMPTED and node_a.told() == PREEMPTED, "both hear of it")
    expect(node_b.read(0, 1).status == iscsi.GOOD, "B is let in")
    expect("nothing to clear" in server.cli("volume", "reservations", "seen", "--clear"), "asking again")
    kill_and_start()
    expect(Node(NODE_A, iqn).registered() == [], "what was cleared came back")


main()
