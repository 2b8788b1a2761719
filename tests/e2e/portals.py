#!/usr/bin/python3
"""Portals that are drained or have moved, bit by bit: where logins are sent, and how sessions are asked to leave"""

import struct

import iscsi
from harness import INITIATOR, Server, check, expect, free_port, main

# RFC 7143 11.13.5: Target moved temporarily, Target moved permanently.
TEMPORARILY, PERMANENTLY = 0x0101, 0x0102
# RFC 7143 11.9.1: the target requests a logout.
LOGOUT_REQUESTED = 1

server = Server()
second = free_port()


def running():
    """The volume's target; two portals, each a group of its own."""
    if not server.alive():
        server.start()
        server.pool(size="1GiB")
        server.volume("mail", "64MiB", hosts=(INITIATOR,))
        server.cli("portal", "add", f"127.0.0.1:{second}", "--group", "2")
    return server.address("mail")[0]


def login(port, iqn, **options):
    return iscsi.Session("127.0.0.1", port, INITIATOR, iqn, **options)


def sent_on(port, iqn):
    """The status that a login ends with, and the address in it."""
    session = login(port, iqn, login=False)
    try:
        session.login()
    except iscsi.LoginFailed as refusal:
        return refusal.status, session.answers.get("TargetAddress", "").split(",")[0]
    finally:
        session.close()
    return 0, None


def asked_to_leave(session):
    """Waits for the asynchronous message that asks for a logout, and follows it; commands until then are answered."""
    answer = session.next_answer()
    expect(answer.opcode == iscsi.ASYNC_MESSAGE, f"opcode {answer.opcode:#x} instead of an asynchronous message")
    event, seconds = answer.header[36], struct.unpack(">H", answer.header[42:44])[0]
    expect(event == LOGOUT_REQUESTED, f"event {event}, not a request to log out")
    expect(seconds > 0, "no time to log out in")
    expect(session.ready().status == iscsi.GOOD, "a command before the logout is not carried out")
    session.logout()


def portal(port):
    return next(p for p in server.json("portal", "list") if p["address"] == f"127.0.0.1:{port}")


@check("a drained portal asks its sessions to leave and sends logins elsewhere for now")
def drained():
    iqn = running()
    session = login(second, iqn)
    session.ready()
    server.cli("portal", "drain", "--group", "2", "--no-wait")
    status, address = sent_on(second, iqn)
    expect((status, address) == (TEMPORARILY, server.portal), f"status {status:#06x}, {address}")
    asked_to_leave(session)
    expect(portal(second)["sessions"] == 0, f"{portal(second)}")
    expect(sent_on(server.port, iqn) == (0, None), "no login where hosts are sent")
    discovery = iscsi.Session("127.0.0.1", server.port, INITIATOR)
    addresses = [value for key, value in discovery.send_targets() if key == "TargetAddress"]
    discovery.logout()
    expect(addresses == [f"{server.portal},1"], f"discovery shows {addresses}")
    server.cli("portal", "resume", "--group", "2")
    expect(sent_on(second, iqn) == (0, None), "no login after it was put back")


@check("a portal that has moved for good says where to, also after a restart, until it is closed")
def moved():
    iqn = running()
    session = login(second, iqn)
    session.ready()
    server.cli("portal", "remove", f"127.0.0.1:{second}", "--moved-to", server.portal)
    status, address = sent_on(second, iqn)
    expect((status, address) == (PERMANENTLY, server.portal), f"status {status:#06x}, {address}")
    asked_to_leave(session)
    server.kill()
    server.start()
    status, address = sent_on(second, iqn)
    expect((status, address) == (PERMANENTLY, server.portal), f"after a restart: status {status:#06x}, {address}")
    expect(portal(second)["state"] == "moved", f"{portal(second)}")
    server.cli("portal", "remove", f"127.0.0.1:{second}")
    try:
        login(second, iqn)
        expect(False, "the portal is still open")
    except ConnectionRefusedError:
        pass
    expect(sent_on(server.port, iqn) == (0, None), "no login where it has moved to")


if __name__ == "__main__":
    main()
