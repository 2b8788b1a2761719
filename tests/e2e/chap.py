#!/usr/bin/python3
"""CHAP with real initiators: right, wrong, mutual and reflected, discovery, and secrets that are nowhere to be read"""

import os
import shutil
import subprocess

from harness import BINARY, Server, check, expect, main, need, palisade, scratch
from iscsi import Session

NAME = "iqn.2024-01.lab.client:chap"
SECRET, OWN, COMMON = "right secret 1", "group secret 2", "common secret 3"
server = Server()


def verb(*arguments, lines=()):
    """Runs a verb with secrets on its standard input."""
    env = {**os.environ, "PALISADE_DATA": str(server.data)}
    run = subprocess.run([BINARY, *arguments], input="".join(f"{line}\n" for line in lines), capture_output=True, text=True, env=env)
    expect(run.returncode == 0, lambda: f"{arguments}: {run.stderr}")
    expect(not any(secret in run.stdout + run.stderr for secret in lines), f"{arguments} shows a secret")
    return run.stdout


def ready():
    """The volume's URL without `iscsi://`; the server is started, the host known and its secrets set."""
    if not server.alive():
        server.start()
        server.pool(size="1GiB")
        server.volume("mail", "64MiB", hosts=(NAME,))
        verb("host", "set", "chap", "--chap", "--mutual", lines=(SECRET, OWN))
    return server.url("mail").removeprefix("iscsi://")


def libiscsi(program, url, user=NAME, secret=None, own=None, own_user="palisade"):
    """The output of a libiscsi tool; None if it fails."""
    need(program)
    env = {**os.environ}
    if secret:
        env.update(LIBISCSI_CHAP_USERNAME=user, LIBISCSI_CHAP_PASSWORD=secret)
    if own:
        env.update(LIBISCSI_CHAP_TARGET_USERNAME=own_user, LIBISCSI_CHAP_TARGET_PASSWORD=own)
    run = subprocess.run([program, "-i", NAME, f"iscsi://{url}"], capture_output=True, text=True, timeout=60, env=env)
    return run.stdout if run.returncode == 0 else None


@check("libiscsi logs in with the right secret, and mutually, and with nothing less")
def libiscsi_logins():
    url = ready()
    for how, works in [
        (dict(secret=SECRET), True),
        (dict(secret=SECRET, own=OWN), True),
        (dict(), False),
        (dict(secret="wrong secret 1"), False),
        (dict(secret=SECRET, user="somebody"), False),
        (dict(secret=SECRET, own="wrong group secret"), False),
    ]:
        out = libiscsi("iscsi-inq", url, **how)
        expect((out is not None and "PALISADE" in out) == works, lambda: f"{how}: {out}")
    # Who proves the wrong thing on our side is not among them: the last one let us down, not we it.
    status = server.json("status")
    expect(status["logins_failed"] >= 3 and status["logins_unheard"] == 0, f"{status}")
    expect(str(status["logins_failed"]) in server.cli("status").partition("Failed logins")[2], server.cli("status"))


@check("qemu-img logs in with a secret from a file")
def qemu():
    need("qemu-img")
    url = ready()
    portal, target, _ = url.split("/")
    options = f"driver=iscsi,transport=tcp,portal={portal},target={target},lun=0,initiator-name={NAME},user={NAME},password-secret=chap"
    for secret, works in [(SECRET, True), ("wrong secret 1", False)]:
        (scratch() / "qemu-secret").write_text(secret)
        command = ["qemu-img", "info", "--object", f"secret,id=chap,file={scratch()}/qemu-secret", "--image-opts", options]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        expect((run.returncode == 0) == works, lambda: f"{secret}: {run.returncode} {run.stderr}")


@check("bench logs in by file, by URL and mutually, and says what was wrong")
def bench():
    url, file = ready(), scratch() / "chap"

    def load(target, *arguments):
        command = [BINARY, "bench", f"iscsi://{target}", "--initiator", NAME, "--seconds", "1", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    for content, works in [(f"{NAME}%{SECRET}", True), (f"{NAME}%{SECRET}\npalisade%{OWN}", True), (f"{NAME}%wrong secret 1", False)]:
        file.write_text(content + "\n")
        run = load(url, "--chap-file", file)
        expect((run.returncode == 0) == works, lambda: run.stderr)
        expect(works or "authentication failure" in run.stderr, lambda: run.stderr)
    run = load(f"{NAME}%{SECRET}@{url}?target_user=palisade&target_password={OWN}")
    expect(run.returncode == 0, lambda: run.stderr)
    run = load(f"{NAME}%{SECRET}@{url}?target_user=palisade&target_password={OWN}", "--connections", 3)
    expect(run.returncode == 0, lambda: f"each of three connections proves itself: {run.stderr}")
    run = load(f"{NAME}%{SECRET}@{url}?target_user=palisade&target_password=wrong group secret")
    expect(run.returncode != 0 and "secret" not in run.stderr.replace("wrong user name or secret", ""), lambda: run.stderr)


@check("validate logs in by file on every path, mutually too, and its reports hold no secret")
def validated():
    url, file, report = f"iscsi://{ready()}", scratch() / "chap-validate", scratch() / "validated.json"

    def run(content, *arguments):
        file.write_text(content + "\n")
        command = [BINARY, "validate", url, url, "--initiator", NAME, "--only", "identity,iscsi", "--json-file", report, "--chap-file", file]
        return subprocess.run([*map(str, command), *arguments], capture_output=True, text=True, timeout=120)

    for content in (f"{NAME}%{SECRET}", f"{NAME}%{SECRET}\npalisade%{OWN}"):
        done = run(content)
        expect(done.returncode == 0, lambda: f"{done.stdout}{done.stderr}")
        text = report.read_text() + done.stdout + done.stderr
        expect(SECRET not in text and OWN not in text, "a secret is in the report")
        report.unlink()
    for content in (f"{NAME}%wrong secret 1", f"{NAME}%{SECRET}\npalisade%wrong group secret"):
        done = run(content)
        expect(done.returncode == 13 and not report.exists(), lambda: f"{done.returncode}: {done.stdout}{done.stderr}")
        expect("secret 1" not in done.stderr and "group secret" not in done.stderr, lambda: done.stderr)
    done = subprocess.run([BINARY, "validate", url.replace("//", f"//{NAME}%{SECRET}@")], capture_output=True, text=True, timeout=60)
    expect(done.returncode == 2 and SECRET not in done.stderr, lambda: f"{done.returncode}: {done.stderr}")


@check("discovery demands the group's secret or the host's own once it is told to")
def discovery():
    ready()

    def listed(**how):
        return "mail" in (libiscsi("iscsi-ls", server.portal, **how) or "")

    expect(listed() and listed(secret=SECRET), "before it is told to")
    verb("discovery", "set", "--chap", "--user", "discover", lines=(COMMON,))
    try:
        expect(server.json("discovery", "show") == {"chap": {"user": "discover", "mutual": False, "mutual_user": None}}, "show")
        expect(listed(secret=COMMON, user="discover"), "the group's secret")
        expect(listed(secret=SECRET), "the host's own")
        expect(not listed() and not listed(secret="wrong secret 1"), "neither")
    finally:
        verb("discovery", "set", "--no-chap")
    expect(listed(), "after it")


@check("a session outlives a new secret, and the next login wants it")
def new_secret():
    url = ready()
    verb("host", "set", "chap", "--no-chap")
    session = Session(server.host, server.port, NAME, url.split("/")[1])
    verb("host", "set", "chap", "--chap", "--mutual", lines=(SECRET, OWN))
    expect(session.command(bytes(6)) is not None, "the session lives")
    expect(libiscsi("iscsi-inq", url) is None and libiscsi("iscsi-inq", url, secret=SECRET), "the next login")
    session.close()


@check("without its key the host is refused, with it back it is let in")
def lost_key():
    url, key, aside = ready(), server.data / "secret.key", scratch() / "aside"
    for directory, works in [(aside, False), (key, True)]:
        server.stop()
        shutil.move(*((key, aside) if not works else (aside, key)))
        server.start()
        expect(bool(libiscsi("iscsi-inq", url, secret=SECRET)) == works, "login")
        warned = any("key" in warning for warning in server.json("status")["warnings"])
        expect(warned != works, f"warned: {warned}")
    host = server.json("host", "show", "chap")
    expect(host["chap"] == {"user": None, "mutual": True, "mutual_user": "palisade"}, f"{host}")


@check("a secret is in no file, no log and no answer")
def nowhere():
    ready()
    texts = [server.log.read_bytes()]
    texts += [path.read_bytes() for path in server.data.rglob("*") if path.is_file()]
    texts += [palisade(*words, "--json", data=server.data).encode() for words in (("host", "list"), ("host", "show", "chap"), ("discovery", "show"), ("status",))]
    for secret in (SECRET, OWN, COMMON):
        expect(not any(secret.encode() in text for text in texts), "a secret was found")
    mode = (server.data / "secret.key").stat().st_mode
    expect(mode & 0o777 == 0o600, f"secret.key has mode {mode:o}")


if __name__ == "__main__":
    main()
