#!/usr/bin/python3
"""Encrypted pools: what is on the disk, restarts with and without the key, and what is left of a deleted volume"""

import contextlib
import os

import iscsi
from harness import INITIATOR, CommandFailed, Server, check, expect, main, scratch

BLOCK = 4096
SECRET = os.urandom(BLOCK - 64) + b"nobody may read this on the disk".ljust(64, b"!")
PLAIN = os.urandom(BLOCK - 64) + b"anybody may read this on a disk".ljust(64, b"?")
NOT_READY = (0x2, 0x04, 0x03)
server = Server()
words, key_file = scratch() / "words", scratch() / "key"


def disk(name="p"):
    return f"{scratch()}/{server.name}-{name}.disk"


@contextlib.contextmanager
def host(name):
    """A session of the volume's own target."""
    session = iscsi.Session(server.host, server.port, INITIATOR, server.address(name)[0])
    session.ready()
    try:
        yield session
    finally:
        session.logout()


def write(name, block, data):
    with host(name) as session:
        result = session.write(block * 8, data)
        expect(result.status == iscsi.GOOD, lambda: f"a write ends with {iscsi.sense_code(result)}")


def holds(name, block, data):
    with host(name) as session:
        expect(session.read(block * 8, 8).data == data, f"block {block} of {name} is not what was written")


def refused(status, text, *arguments):
    try:
        server.cli(*arguments)
    except CommandFailed as error:
        expect(error.status == status and text in str(error), f"status {error.status}: {error}")
        return
    expect(False, f"{arguments} was not refused")


def restart():
    server.kill()
    server.start()


def on_disk(name, data):
    """Whether these bytes are anywhere on the pool's disk; holes of the file are skipped."""
    with open(disk(name), "rb") as file:
        end, at = os.fstat(file.fileno()).st_size, 0
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                return False
            stop = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            file.seek(at)
            if data in file.read(stop - at):
                return True
            at = stop
    return False


@check("an encrypted volume serves like any other, and nothing of it can be read from the disk", vital=True)
def unreadable():
    words.write_text("correct horse battery staple\n")
    key_file.write_bytes(os.urandom(64))
    server.start()
    server.cli("pool", "create", "p", "--disk", f"{disk()}:1GiB", "--encrypt", "--passphrase-file", words)
    server.volume("mail", "64MiB")
    server.volume("open", "64MiB", "--encrypt", "off")
    write("mail", 3, SECRET)
    write("open", 3, PLAIN)
    holds("mail", 3, SECRET)
    expect(not on_disk("p", SECRET[-64:]), "the secret is on the disk")
    expect(on_disk("p", PLAIN[-64:]), "what is not encrypted should be found: the search is no good")
    shown = server.json("volume", "show", "mail")
    expect(shown["encryption"] == "encrypted", f"{shown['encryption']}")
    keys = server.json("pool", "show", "p")["encryption"]
    expect(keys["state"] == "unlocked" and keys["data_keys"] == 1 and len(keys["slots"]) == 1, f"{keys}")


@check("after kill -9 the pool is locked: hosts hear NOT READY, other volumes serve, the passphrase opens it")
def locked():
    restart()
    expect(server.json("pool", "show", "p")["encryption"]["state"] == "locked", "the pool opened by itself")
    expect(any("unlock" in warning for warning in server.json("status")["warnings"]), "no warning")
    session = iscsi.Session(server.host, server.port, INITIATOR, server.address("mail")[0])
    try:
        session.command(bytes(6))  # a unit attention, if there is one
        for result in (session.command(bytes(6)), session.read(24, 8), session.write(24, bytes(BLOCK))):
            expect(iscsi.sense_code(result) == NOT_READY, f"{iscsi.sense_code(result)}")
    finally:
        session.logout()
    holds("open", 3, PLAIN)
    refused(18, "locked", "volume", "create", "late", "1MiB")
    wrong = scratch() / "wrong"
    wrong.write_text("correct horse battery stable")
    refused(12, "no key slot", "pool", "unlock", "p", "--passphrase-file", wrong)
    server.cli("pool", "unlock", "p", "--passphrase-file", words)
    holds("mail", 3, SECRET)


@check("a key file opens the pool by itself when the server starts, and a new pool key keeps out what was not given")
def by_file():
    server.cli("pool", "key", "add", "p", "--key-file", key_file)
    restart()
    holds("mail", 3, SECRET)
    server.cli("pool", "rekey", "p", "--key-file", key_file)
    refused(12, "no key slot", "pool", "unlock", "p", "--passphrase-file", words)
    slots = server.json("pool", "show", "p")["encryption"]["slots"]
    expect([slot["kind"] for slot in slots] == ["key-file"], f"{slots}")
    refused(3, "last", "pool", "key", "remove", "p", slots[0]["slot"])
    restart()
    holds("mail", 3, SECRET)
    os.rename(key_file, f"{key_file}.away")
    restart()
    expect(server.json("pool", "show", "p")["encryption"]["state"] == "locked", "opened without its key file")
    os.rename(f"{key_file}.away", key_file)
    server.cli("pool", "unlock", "p", "--key-file", key_file)
    holds("mail", 3, SECRET)


@check("snapshots and clones of an encrypted volume are encrypted with its key")
def family():
    server.cli("snapshot", "create", "mail", "--name", "before")
    write("mail", 3, bytes(reversed(SECRET)))
    server.cli("volume", "clone", "mail@before", "copy")
    server.cli("volume", "grant", "copy", INITIATOR.rsplit(":", 1)[-1])
    holds("copy", 3, SECRET)
    expect(server.json("pool", "show", "p")["encryption"]["data_keys"] == 1, "a clone has a key of its own")
    expect(not on_disk("p", SECRET[-64:]), "the secret is on the disk")


@check("with the last volume of a key the key is gone from the disk, at once")
def forgotten():
    def entry():
        with open(disk(), "rb") as file:
            file.seek((16 << 10) + BLOCK)
            return file.read(128)

    before = entry()
    text = server.cli("volume", "delete", "mail", "--with-snapshots")
    expect("overwritten when" in text, text)
    expect(entry() == before, "the clone lost its key")
    holds("copy", 3, SECRET)
    text = server.cli("volume", "delete", "copy")
    expect("cannot be read again" in text, text)
    with open(disk(), "rb") as file:
        area = file.read(1 << 20)
    expect(before[32:112] not in area and any(before), "the wrapped key is still there")


@check("CRYPTOGRAPHIC ERASE by a host leaves an empty volume with another key")
def erased():
    server.volume("lab", "64MiB")
    write("lab", 0, SECRET)
    with host("lab") as session:
        result = session.command(bytes([0x48, 0x03, 0, 0, 0, 0, 0, 0, 0, 0]))
        expect(result.status == iscsi.GOOD, lambda: f"{iscsi.sense_code(result)}")
    holds("lab", 0, bytes(BLOCK))
    write("lab", 1, SECRET)
    restart()
    holds("lab", 0, bytes(BLOCK))
    holds("lab", 1, SECRET)
    with host("open") as session:
        result = session.command(bytes([0x48, 0x03, 0, 0, 0, 0, 0, 0, 0, 0]))
        expect(iscsi.sense_code(result) == (0x5, 0x24, 0x00), lambda: f"{iscsi.sense_code(result)}")


if __name__ == "__main__":
    main()
