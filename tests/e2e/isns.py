#!/usr/bin/python3
"""iSNS: a real name server (open-isns) is told of targets and portals as they come and go, and after it lost them"""

import shutil
import subprocess
import time

from harness import Failure, Server, _cleanups, _die_with_parent, check, expect, free_port, main, need, note, scratch

# Beside what is asked for: how fast a change is seen by a look every second and a message.
SOON = 15
INITIATOR = "iqn.2024-01.lab.client:asks"


class NameServer:
    """An isnsd of the suite's own, with a database of its own."""

    def __init__(self, name, period="10m"):
        self.folder = scratch() / name
        self.folder.mkdir()
        self.address = f"127.0.0.1:{free_port()}"
        self.process = None
        (self.folder / "isnsd.conf").write_text(
            f"SourceName = iqn.2024-01.lab:{name}\nDatabase = {self.folder}/db\nPIDFile = {self.folder}/pid\n"
            f"BindAddress = {self.address}\nControlSocket = {self.folder}/control\nDefaultDiscoveryDomain = 1\n"
            f"RegistrationPeriod = {period}\nESIMinInterval = 2s\nESIMaxInterval = 3s\nESIRetries = 2\n"
            f"SLPRegister = 0\nSecurity = 0\n"
        )
        (self.folder / "isnsadm.conf").write_text(
            f"SourceName = {INITIATOR}\nServerAddress = {self.address}\nNetwork.ConnectTimeout = 5\n"
            f"Network.CallTimeout = 5\nSecurity = 0\n"
        )
        _cleanups.callback(self.stop)

    def start(self):
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                ["isnsd", "-4", "-f", "-c", self.folder / "isnsd.conf"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent,
            )
        end = time.monotonic() + SOON
        while True:
            try:
                # Who asks has to be known, or is shown nothing.
                self.ask("--register", f"initiator={INITIATOR}", "portal=127.0.0.1:1/tcp")
                return
            except Failure:
                expect(time.monotonic() < end and self.process.poll() is None, "isnsd does not start")
                time.sleep(0.2)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()

    def forget(self):
        shutil.rmtree(self.folder / "db", ignore_errors=True)

    def ask(self, *arguments):
        command = ["isnsadm", "-c", str(self.folder / "isnsadm.conf"), *arguments]
        run = subprocess.run(command, capture_output=True, text=True, timeout=30)
        text = run.stdout + run.stderr
        if run.returncode != 0 or "Error" in text or "ERROR" in text:
            raise Failure(f"{' '.join(command[3:])}: status {run.returncode}: {text.strip()}")
        return text

    def listed(self, kind):
        """What `isnsadm --list` shows of a kind. The asking initiator's own is always there."""
        text = self.ask("--list", kind)
        own = {"nodes": INITIATOR, "portals": "127.0.0.1"}[kind]
        expect(own in text, lambda: f"the list of {kind} has not even what was registered by the suite:\n{text}")
        return text

    def knows(self, *texts, kind="nodes"):
        listed = self.listed(kind)
        return all(text in listed for text in texts)


def until(condition, what, seconds=SOON):
    end = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < end, lambda: f"{what() if callable(what) else what}\n{server.tail(5)}")
        time.sleep(0.3)


server = Server()
first = second = None


def both():
    return (first, second)


@check("volumes and the portal are registered with two servers soon after they are there", vital=True)
def registered():
    global first, second
    need("isnsd", "isnsadm")
    first, second = NameServer("isns1"), NameServer("isns2")
    for one in both():
        one.start()
    server.start()
    server.pool()
    server.cli("isns", "set", first.address, second.address)
    mail = server.volume("mail", "64MiB")[0]
    for one in both():
        until(lambda: one.knows(mail), lambda: f"the target is not listed:\n{one.listed('nodes')}")
        expect(one.knows("mail", "Target"), "neither alias nor type are listed")
        until(lambda: one.knows("127.0.0.1", str(server.port), kind="portals"), lambda: one.listed("portals"))
    # What an initiator does to find targets.
    found = first.ask("--query", f"pg-name={mail}")
    note(" ".join(found.split())[:200])
    expect(str(server.port) in found, f"the portal group is not found: {found}")
    states = [(one["address"], one["state"], one["targets"]) for one in server.json("isns", "show")["servers"]]
    expect(states == [(one.address, "registered", 1) for one in both()], f"{states}")


@check("targets and portals that come and go are followed")
def followed():
    web = server.volume("web", "64MiB")[0]
    until(lambda: first.knows(web), "the new target is not listed")
    server.cli("volume", "rename", "web", "www")
    until(lambda: first.knows("www"), "the new name is not listed")
    portal = f"127.0.0.1:{free_port()}"
    server.cli("portal", "add", portal, "--group", "7")
    until(lambda: first.knows(portal.split(":")[1], kind="portals"), "the new portal is not listed")
    found = first.ask("--query", f"pg-name={web}")
    expect(any("tag" in line.lower() and line.rstrip().endswith("7") for line in found.splitlines()), f"no group 7: {found}")
    server.cli("portal", "remove", portal)
    until(lambda: not first.knows(portal.split(":")[1], kind="portals"), "the removed portal is still listed")
    server.cli("target", "create", "farm")
    farm = server.json("target", "show", "farm")["iqn"]
    time.sleep(2)
    expect(not first.knows(farm), "a target without volumes is listed")
    server.cli("target", "map", "farm", "www")
    until(lambda: first.knows(farm, "farm"), "the target of several volumes is not listed")
    server.cli("volume", "delete", "www", "--force")
    until(lambda: not first.knows(farm), "the empty target is still listed")
    for one in both():
        until(lambda: not one.knows(web), "the deleted target is still listed")
        expect(one.knows(server.address("mail")[0]), "the other target is gone, too")


@check("a server that comes back empty is told all again; meanwhile status says that it is away")
def forgotten():
    first.stop()
    first.forget()
    until(lambda: any(first.address in w for w in server.json("status")["warnings"]), "status does not warn")
    states = [one["state"] for one in server.json("isns", "show")["servers"]]
    expect(states == ["unreachable", "registered"], f"{states}")
    first.start()
    until(lambda: first.knows(server.address("mail")[0]), "the target is not registered again", seconds=35)
    until(lambda: not any(first.address in w for w in server.json("status")["warnings"]), "status still warns")


@check("inquiries (ESI) are answered: the portals stay, and go after kill -9")
def inquiries():
    port = free_port()
    server.cli("isns", "set", first.address, "--esi-port", port)
    until(lambda: not second.knows(server.address("mail")[0]), "the other server still knows")
    mail = server.address("mail")[0]
    until(lambda: first.knows(mail) and first.knows(str(server.port), kind="portals"), "not registered")
    time.sleep(15)
    expect(first.knows(str(server.port), kind="portals"), "the portal was forgotten, so inquiries were not answered")
    server.kill()
    until(lambda: not first.knows(str(server.port), kind="portals"), "nothing inquires", seconds=30)
    server.start()
    until(lambda: first.knows(mail) and first.knows(str(server.port), kind="portals"), "not registered after a restart", 35)


@check("all is deregistered by `isns off` and by an orderly stop, with one server away")
def deregistered():
    server.cli("isns", "off")
    mail = server.address("mail")[0]
    until(lambda: not first.knows(mail), "the target is still listed after `isns off`")
    expect(server.json("isns", "show")["servers"] == [], "servers are shown after `isns off`")
    second.stop()
    server.cli("isns", "set", first.address, second.address)
    until(lambda: first.knows(mail), "the target is not registered")
    begun = time.monotonic()
    server.stop()
    note(f"stopped in {time.monotonic() - begun:.1f} s")
    expect(not first.knows(mail), "the target is still listed after an orderly stop")
    expect(not first.knows(str(server.port), kind="portals"), "the portal is still listed after an orderly stop")


@check("serving does not wait for name servers that are away, and the setting outlives a restart")
def away():
    first.stop()
    seconds = server.start()
    note(f"serving in {seconds:.1f} s")
    states = {one["state"] for one in server.json("isns", "show")["servers"]}
    expect(len(states) >= 1 and "registered" not in states, f"{states}")
    server.stop()


main()
