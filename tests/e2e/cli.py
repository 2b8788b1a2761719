#!/usr/bin/python3
"""The command line: every verb as a table and as JSON, sizes, names and exit statuses"""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request

import iscsi
from harness import (
    ANY, BINARY, GIB, INITIATOR, KIB, MIB, CommandFailed, Failure, Server, check, expect, free_port, main, note, palisade, scratch,
)

server = Server()


def running():
    if not server.alive():
        server.start()
        if not server.json("pool", "list"):
            server.pool(size="1GiB")


def refused(status, *arguments, words=()):
    """The command fails with this exit status, a message with these words, and as JSON with the same class."""
    text = None
    try:
        text = server.cli(*arguments)
    except CommandFailed as error:
        expect(error.status == status, f"status {error.status}, not {status}: {error}")
        expect(not error.stdout.strip(), f"prints `{error.stdout.strip()}` where only an error belongs")
        for word in words:
            expect(word in error.stderr, f"`{word}` is not in: {error.stderr.strip()}")
    expect(text is None, f"`palisade {' '.join(map(str, arguments))}` succeeded: {text}")


def table(*arguments):
    """What the command prints without --json: a heading and rows, as lists of words."""
    text = server.cli(*arguments)
    expect(not text.lstrip().startswith(("{", "[")), f"prints JSON unasked: {text[:80]}")
    return [line.split() for line in text.splitlines() if line.strip()]


def names(what):
    return [item["name"] for item in server.json(what, "list")]


@check("pools: create, list, show, extend, delete")
def pools():
    running()
    made = server.json("pool", "create", "second", "--disk", f"{scratch()}/second.disk:256MiB")
    expect("second" in json.dumps(made), f"create prints {made}")
    size = os.stat(scratch() / "second.disk")
    expect(size.st_size == 256 * MIB, f"the file has {size.st_size} bytes")
    expect(size.st_blocks * 512 < 64 * MIB, f"the file is not sparse: {size.st_blocks * 512} bytes on disk")
    expect("second" in names("pool"), "not listed")
    shown = server.json("pool", "show", "second")
    expect(shown["state"] == "online" and shown["class"] == "single", f"{shown}")
    expect(0 < shown["free_bytes"] <= shown["size_bytes"] <= 256 * MIB, f"{shown}")
    expect(any("second" in row for row in table("pool", "list")), "not in the table")
    expect(table("pool", "show", "second"), "show prints nothing")
    before = shown["size_bytes"]
    server.cli("pool", "extend", "second", "--disk", f"{scratch()}/second.disk:512MiB")
    after = server.json("pool", "show", "second")["size_bytes"]
    expect(after >= before + 200 * MIB, f"{before} bytes before, {after} after it was extended")
    server.cli("pool", "delete", "second")
    expect("second" not in names("pool"), "still listed")


@check("a pool in memory says that it is lost at exit, and is")
def memory_pool():
    other = Server()
    other.start()
    other.pool("quick", "256MiB", ram=True)
    expect(other.json("pool", "show", "quick")["lost_at_exit"] is True, "does not say so")
    iqn, _ = other.volume("v", "64MiB")
    session = iscsi.Session(other.host, other.port, INITIATOR, iqn)
    session.ready()
    expect(session.write(0, b"x" * 4096).status == iscsi.GOOD, "no write")
    expect(session.read(0, 8).data == b"x" * 4096, "no read")
    session.logout()
    other.stop()


@check("volumes: create, list, show, resize, rename, delete")
def volumes():
    running()
    server.cli("volume", "create", "mail", "10GiB")
    shown = server.json("volume", "show", "mail")
    expect(shown["size_bytes"] == 10 * GIB and shown["provisioning"] == "thin" and shown["cache"] == "durable", f"{shown}")
    expect(shown["block_size"] == 512 and shown["pool"] == "p" and shown["state"] == "online", f"{shown}")
    expect(shown["iqn"].startswith("iqn.") and len(shown["naa"]) == 32 and shown["naa"].startswith("6"), f"{shown}")
    expect(shown["used_bytes"] < MIB, f"a new volume uses {shown['used_bytes']} bytes")
    server.cli("volume", "create", "other", "64MiB", "--block-size", "4096", "--cache", "buffered", "--thick", "--pool", "p")
    other = server.json("volume", "show", "other")
    expect((other["block_size"], other["cache"], other["provisioning"]) == (4096, "buffered", "thick"), f"{other}")
    expect(set(names("volume")) >= {"mail", "other"}, "not listed")
    expect(any("mail" in row for row in table("volume", "list")), "not in the table")
    server.cli("volume", "resize", "mail", "12GiB")
    expect(server.json("volume", "show", "mail")["size_bytes"] == 12 * GIB, "not resized")
    refused(3, "volume", "resize", "mail", "1GiB", words=("mail",))
    server.cli("volume", "rename", "mail", "post")
    renamed = server.json("volume", "show", "post")
    expect((renamed["iqn"], renamed["naa"], renamed["serial"]) == (shown["iqn"], shown["naa"], shown["serial"]), "identity changed")
    refused(4, "volume", "show", "mail", words=("mail",))
    server.cli("volume", "delete", "post")
    server.cli("volume", "delete", "other")
    expect(not {"post", "other"} & set(names("volume")), "still listed")


@check("target names are legal whatever volumes are called")
def target_names():
    running()
    for name in ("Mail", "a_b", "x.y-z", "ü"):
        try:
            server.cli("volume", "create", name, "64MiB")
        except CommandFailed as error:
            expect(error.status in (2, 3), f"`{name}`: status {error.status}: {error}")
            continue
        iqn = server.json("volume", "show", name)["iqn"]
        # RFC 3722: lower case letters, digits, dash, dot and colon.
        expect(re.fullmatch(r"iqn\.[0-9]{4}-[0-9]{2}\.[a-z0-9.:-]+", iqn), f"`{name}` has the target name {iqn}")
        server.cli("volume", "delete", name)


@check("hosts and grants: a host sees its volumes only, and reads only where it may only read")
def hosts():
    running()
    server.cli("volume", "create", "one", "64MiB")
    server.cli("volume", "create", "two", "64MiB")
    server.cli("host", "create", "web", "--iqn", INITIATOR, "--address", "127.0.0.0/8")
    server.cli("volume", "grant", "one", "web")
    shown = server.json("host", "show", "web")
    expect(shown["iqns"] == [INITIATOR] and [g["volume"] for g in shown["grants"]] == ["one"], f"{shown}")
    expect([g["host"] for g in server.json("volume", "show", "one")["grants"]] == ["web"], "the volume does not show it")
    expect("web" in names("host") and any("web" in row for row in table("host", "list")), "not listed")

    def targets(initiator=INITIATOR):
        session = iscsi.Session(server.host, server.port, initiator)
        found = [value for key, value in session.send_targets() if key == "TargetName"]
        session.logout()
        return found

    one, two = (server.address(v)[0] for v in ("one", "two"))
    expect(targets() == [one], f"sees {targets()}")
    expect(targets("iqn.2024-01.lab.client:stranger") == [], "a stranger sees something")
    server.cli("volume", "grant", "two", "web", "--read-only")
    expect(sorted(targets()) == sorted([one, two]), f"sees {targets()}")
    session = iscsi.Session(server.host, server.port, INITIATOR, two)
    session.ready()
    expect(session.read(0, 8).status == iscsi.GOOD, "cannot read")
    code = iscsi.sense_code(session.write(0, bytes(4096)))
    expect(code is not None and code[0] == iscsi.DATA_PROTECT, f"a write where only reads are permitted: {code}")
    listed = [s for s in server.json("session", "list") if s["target"] == two]
    expect(len(listed) == 1 and listed[0]["host"] == "web" and listed[0]["read_only"] is True, f"{listed}")
    expect(len(table("session", "list")) >= 2, "no table of sessions")
    refused(6, "volume", "delete", "two", words=("two",))
    session.logout()
    server.cli("volume", "revoke", "two", "web")
    expect(targets() == [one], "still sees what was revoked")
    for host in ("web",):
        server.cli("volume", "revoke", "one", host)
        server.cli("host", "delete", host)
    for volume in ("one", "two"):
        server.cli("volume", "delete", volume)


@check("a revoked grant ends what a host does with the volume")
def revoked_in_use():
    running()
    iqn, _ = server.volume("kept", "64MiB")
    session = iscsi.Session(server.host, server.port, INITIATOR, iqn)
    session.ready()
    server.cli("volume", "revoke", "kept", "suite")
    end = time.monotonic() + 10
    try:
        while session.read(0, 8).status == iscsi.GOOD:
            expect(time.monotonic() < end, "a host reads on 10 s after its grant was revoked")
            time.sleep(0.1)
    except (OSError, iscsi.Closed):
        pass
    server.cli("volume", "delete", "kept")
    server.cli("host", "delete", "suite")


@check("sizes are read as people write them, and nonsense is refused")
def sizes():
    running()
    for text, size in {
        "10G": 10 * GIB, "10GiB": 10 * GIB, "1TiB": 1 << 40, "64TiB": 64 << 40, "1048576": MIB, "512MiB": 512 * MIB, "1536KiB": 1536 * KIB,
    }.items():
        server.cli("volume", "create", "sized", text)
        got = server.json("volume", "show", "sized")["size_bytes"]
        server.cli("volume", "delete", "sized")
        expect(got == size, f"{text} became {got} bytes")
    for text in ("0", "10X", "", "-5G", "1000000TiB", "100", "513"):
        try:
            server.cli("volume", "create", "sized", "--", text)
        except CommandFailed as error:
            expect(error.status in (2, 3), f"`{text}`: status {error.status}: {error}")
        else:
            raise Failure(f"the size `{text}` was accepted")


@check("what does not exist, is taken, is in use or makes no sense has its exit status")
def statuses():
    running()
    server.cli("volume", "create", "here", "64MiB")
    for what in ("pool", "volume", "host"):
        refused(4, what, "show", "nothing", words=("nothing",))
        refused(4, what, "delete", "nothing", words=("nothing",))
    refused(5, "volume", "create", "here", "128MiB", words=("here",))
    refused(4, "volume", "grant", "here", "nobody", words=("nobody",))
    refused(4, "volume", "create", "x", "64MiB", "--pool", "nowhere", words=("nowhere",))
    refused(6, "pool", "delete", "p", words=("p",))
    refused(2, "volume", "paint", "here")
    refused(2, "volume", "create", "x", "64MiB", "--block-size", "123")
    refused(3, "host", "create", "bad", "--iqn", "not a name")
    refused(3, "host", "create", "bad", "--iqn", INITIATOR, "--address", "300.0.0.1/8")
    refused(3, "host", "create", "bad", "--iqn", ANY, words=("address",))
    for name in ("", "a/b", "..", "x" * 300, "a b"):
        try:
            server.cli("volume", "create", "--", name, "64MiB")
        except CommandFailed as error:
            expect(error.status in (2, 3), f"the name `{name[:20]}`: status {error.status}")
        else:
            raise Failure(f"the name `{name[:20]}` was accepted")
    server.cli("volume", "delete", "here")


@check("without a server a command says so")
def unreachable():
    try:
        palisade("status", data=scratch() / "nobody")
    except CommandFailed as error:
        expect(error.status == 13, f"status {error.status}: {error}")
        expect("palisade serve" in error.stderr, f"it does not say what to do: {error.stderr}")
        return
    raise Failure("a status without a server")


@check("help names every verb, the errors and their exit statuses")
def helps():
    text = palisade("--help")
    for verb in ("serve", "pool", "volume", "host", "session", "status", "bench"):
        expect(verb in text, f"{verb} is not in the help")
        expect(palisade(verb, "--help"), f"no help for {verb}")
    errors = palisade("help", "errors")
    for word in ("not-found", "no-space", "already-serving", "16"):
        expect(word in errors, f"{word} is not in `palisade help errors`")
    expect(palisade("--version").split()[0] == "palisade", "no version")


@check("status tells versions, portals, counts and space")
def status():
    running()
    told = server.json("status")
    expect(told["portals"] == [server.portal], f"portals: {told['portals']}")
    expect(told["pools"] == 1 and told["size_bytes"] > 0 and told["version"], f"{told}")
    expect(server.portal in server.cli("status"), "the table has no portal")


@check("everything is as it was after a restart")
def restart():
    running()
    iqn, _ = server.volume("lasting", "64MiB")
    session = iscsi.Session(server.host, server.port, INITIATOR, iqn)
    session.ready()
    data = os.urandom(64 * KIB)
    expect(session.write(8, data).status == iscsi.GOOD, "no write")
    session.logout()

    def everything():
        kept = {what: server.json(what, "list") for what in ("pool", "volume", "host")}
        return json.loads(json.dumps(kept), object_hook=lambda d: {k: v for k, v in d.items() if k not in ("used_bytes", "free_bytes", "sessions", "space")})

    before = everything()
    server.stop()
    server.start()
    expect(everything() == before, f"before {before}, after {everything()}")
    session = iscsi.Session(server.host, server.port, INITIATOR, iqn)
    session.ready()
    expect(session.read(8, 128).data == data, "other data")
    session.logout()
    server.stop()


@check("the demo makes a pool and a volume of 10 GiB for this machine and says how to use them")
def demo():
    show = Server(arguments=["--demo"])
    show.start()
    volume = show.json("volume", "show", "demo")
    expect(volume["size_bytes"] == 10 * GIB and volume["provisioning"] == "thin", f"{volume}")
    session = iscsi.Session(show.host, show.port, "iqn.2024-01.lab.client:anyone", volume["iqn"])
    session.ready()
    expect(session.capacity() == (10 * GIB // 512, 512), f"{session.capacity()}")
    expect(session.write(0, bytes(4096)).status == iscsi.GOOD, "no write")
    session.logout()
    printed = show.log.read_text()
    for word in (volume["iqn"], "iscsiadm", "qemu", show.portal):
        expect(word.lower() in printed.lower(), f"`{word}` is not in what it prints:\n{printed[:1500]}")
    show.process.send_signal(signal.SIGINT)
    expect(show.process.wait(20) == 0, "Ctrl-C does not end it in order")
    show.start()
    expect(show.json("volume", "show", "demo")["iqn"] == volume["iqn"], "the second start is another demo")
    show.stop()


@check("several portals serve, IPv6 too")
def portals():
    port = free_port()
    many = Server(arguments=["--portal", f"[::1]:{port}"])
    many.start()
    many.pool(size="256MiB")
    iqn, _ = many.volume("v", "64MiB")
    for host, at in ((many.host, many.port), ("::1", port)):
        session = iscsi.Session(host, at, INITIATOR)
        addresses = [value for key, value in session.send_targets() if key == "TargetAddress"]
        note(f"{host}: {addresses}")
        expect(addresses, f"no address told at {host}")
        session.logout()
        session = iscsi.Session(host, at, INITIATOR, iqn)
        session.ready()
        expect(session.read(0, 8).status == iscsi.GOOD, f"no read at {host}")
        session.logout()
    many.stop()


@check("the API answers on its TCP address when one is given, and on this machine only")
def api():
    port = free_port()
    other = Server(arguments=["--api", f"127.0.0.1:{port}"])
    other.start()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status", timeout=10) as answer:
        told = json.load(answer)
    expect(told["portals"] == [other.portal], f"{told}")
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/volumes/nothing", timeout=10)
    except urllib.error.HTTPError as error:
        expect(error.code == 404 and json.load(error)["code"] == "not-found", f"{error}")
    else:
        raise Failure("a volume that is not there was shown")
    other.stop()
    run = subprocess.run([BINARY, "serve", "--data", scratch() / "open", "--portal", f"127.0.0.1:{free_port()}", "--api", f"0.0.0.0:{port}"], capture_output=True, text=True, timeout=20)
    expect(run.returncode not in (0, 101), f"an API without authentication for all the world: {run.returncode}")


if __name__ == "__main__":
    main()
