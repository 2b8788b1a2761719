#!/usr/bin/python3
"""QEMU's own initiator: images in and out, patterns, and a machine that boots from a volume"""

import os
import random
import subprocess

from harness import ANY, KIB, LAB, LOGS, MIB, Server, check, expect, main, need, need_guest, scratch

server = Server()


def tool(*command, seconds=300):
    """Runs a program; it has to succeed. Returns what it printed."""
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=seconds)
    expect(run.returncode == 0, lambda: f"{' '.join(map(str, command))}: {run.returncode}: {(run.stderr + run.stdout).strip()[-1500:]}")
    return run.stdout


def url(name, size, *arguments):
    """A new volume's URL."""
    if not server.alive():
        server.start()
        server.pool(size="4GiB")
    server.volume(name, size, *arguments, hosts=(ANY,))
    return server.url(name)


def image(name, size):
    """An image of this size with holes, random parts and repeated parts."""
    path, chance = scratch() / name, random.Random(name)
    with open(path, "wb") as file:
        file.truncate(size)
        for _ in range(40):
            length = chance.choice((4 * KIB, 64 * KIB, MIB))
            file.seek(chance.randrange(0, size - length, 512))
            file.write(os.urandom(length) if chance.random() < 0.7 else bytes([chance.randrange(256)]) * length)
    return path


@check("a raw image goes in, compares equal, and comes out the same")
def raw_image():
    need("qemu-img")
    source, target = image("raw.img", 256 * MIB), url("raw", "256MiB")
    tool("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, target)
    tool("qemu-img", "compare", "-f", "raw", "-F", "raw", source, target)
    tool("qemu-img", "convert", "-f", "raw", "-O", "raw", target, scratch() / "raw.out")
    tool("cmp", source, scratch() / "raw.out")
    server.stop()
    server.start()
    tool("qemu-img", "compare", "-f", "raw", "-F", "raw", source, target)


@check("a compressed qcow2 image goes in out of order and comes out the same, with blocks of 4096 bytes")
def qcow2_image():
    need("qemu-img")
    source, target = image("qcow.img", 128 * MIB), url("qcow", "128MiB", "--block-size", "4096")
    tool("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", source, scratch() / "in.qcow2")
    tool("qemu-img", "convert", "-n", "-W", "-m", "8", "-f", "qcow2", "-O", "raw", scratch() / "in.qcow2", target)
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", target, scratch() / "out.qcow2")
    tool("qemu-img", "compare", source, scratch() / "out.qcow2")


@check("an image of zeros takes no space: holes are found with GET LBA STATUS")
def holes():
    need("qemu-img")
    target = url("holes", "1GiB")
    with open(scratch() / "zero.img", "wb") as file:
        file.truncate(1 << 30)
    tool("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", scratch() / "zero.img", target)
    used = server.json("volume", "show", "holes")["used_bytes"]
    expect(used < 16 * MIB, f"{used} bytes used by a volume of zeros")
    parts = tool("qemu-img", "map", "--output=json", "-f", "raw", target)
    expect('"data": true' not in parts, f"qemu-img map finds data: {parts[:300]}")


def patterns(target, block, count):
    """Writes patterns and zeros, discards, and compares with a model of each block."""
    chance, blocks = random.Random(block), 32 * MIB // block
    model, commands = [0] * blocks, []
    for _ in range(count):
        start, length = chance.randrange(blocks), chance.choice((1, 2, 7, 64, 300))
        length = min(length, blocks - start)
        kind = chance.random()
        if kind < 0.15:
            commands.append(f"write -z -u {start * block} {length * block}")
            pattern = 0
        elif kind < 0.25:
            commands.append(f"discard {start * block} {length * block}")
            commands.append(f"write -z {start * block} {length * block}")
            pattern = 0
        else:
            pattern = chance.randrange(1, 256)
            commands.append(f"write {'-f ' if kind < 0.4 else ''}-P {pattern} {start * block} {length * block}")
        model[start:start + length] = [pattern] * length
    start = 0
    while start < blocks:
        end = start
        while end < blocks and model[end] == model[start]:
            end += 1
        commands.append(f"read -P {model[start]} {start * block} {(end - start) * block}")
        start = end
    script = LOGS / f"patterns-{block}.qemu-io"
    script.write_text("\n".join([*commands, "flush", "quit"]) + "\n")
    with open(script) as stdin:
        run = subprocess.run(["qemu-io", "-f", "raw", target], stdin=stdin, capture_output=True, text=True, timeout=600)
    text = run.stdout + run.stderr
    bad = [line for line in text.splitlines() if "failed" in line.lower() or "error" in line.lower()]
    expect(run.returncode == 0 and not bad, lambda: f"qemu-io ended with {run.returncode}: {bad[:5]}")
    reads = sum(command.startswith("read") for command in commands)
    expect(text.count("read ") >= reads, f"qemu-io read {text.count('read ')} of {reads} times")


@check("qemu-io's patterns, zeros and discards read back, with blocks of 512 bytes")
def patterns_512():
    need("qemu-io")
    patterns(url("io512", "64MiB"), 512, 600)


@check("qemu-io's patterns, zeros and discards read back, with blocks of 4096 bytes")
def patterns_4096():
    need("qemu-io")
    patterns(url("io4096", "64MiB", "--block-size", "4096"), 4096, 600)


@check("a diskless machine boots from a volume")
def boot():
    need("qemu-img")
    need_guest()
    url("boot", "128MiB")
    iqn, lun = server.address("boot")
    run = subprocess.run(
        [LAB / "boot-from-san", "-w", "-t", "300", server.portal, iqn, str(lun)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400,
    )
    (LOGS / "boot.log").write_text(run.stdout + run.stderr)
    expect(run.returncode == 0, lambda: "\n".join((run.stdout + run.stderr).splitlines()[-15:]))


if __name__ == "__main__":
    main()
