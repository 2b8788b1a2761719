"""What every end-to-end suite needs: checks with names, a server to start and kill, and the `palisade` command.

A suite is an executable file that declares checks with `@check("what holds")` and ends with `main()`. It prints
one line a check and, last, `N passed, N failed, N skipped`. What cannot run says so as skipped, never as passed.
"""

import contextlib
import ctypes
import dataclasses
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = ROOT / "tests/lab"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = pathlib.Path(os.environ.get("PALISADE_BIN", TARGET / "release/palisade"))
SUITE = pathlib.Path(sys.argv[0]).stem
LOGS = pathlib.Path(os.environ.get("PALISADE_LOGS", ROOT / "target/test-logs")) / SUITE
LONG = os.environ.get("PALISADE_LONG", "") not in ("", "0")
READY_SECONDS = 30
INITIATOR = "iqn.2024-01.lab.client:suite"
# Any initiator of this machine or of the lab's networks: for programs that choose their own name.
ANY = "*"
LAB_ADDRESSES = ("127.0.0.0/8", "10.77.0.0/16")

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Failure(Exception):
    """A check did not hold."""


class Skip(Exception):
    """A check cannot run here, and why."""


@dataclasses.dataclass
class Tally:
    """What a check returns that stands for many, each of which it has reported itself."""

    passed: int
    failed: int
    skipped: int


_checks = []


def check(what, long=False, vital=False):
    """Declares a check. `long` ones are there only with `./test --long`; after a `vital` one failed, none can run."""

    def declare(function):
        if LONG or not long:
            _checks.append((what, function, vital))
        return function

    return declare


def expect(condition, message):
    """Fails the check with `message` unless `condition` holds."""
    if not condition:
        raise Failure(message() if callable(message) else message)


def need(*tools):
    """Skips the check when a program is not installed."""
    for tool in tools:
        if shutil.which(tool) is None:
            raise Skip(f"{tool} is not installed; tests/lab/setup-host installs it")


def need_guest():
    """Skips the check when there is no guest to boot."""
    need("qemu-system-x86_64")
    cache = pathlib.Path(os.environ.get("LAB_CACHE", pathlib.Path.home() / ".cache/palisade-lab"))
    if not (cache / "stamp").exists():
        raise Skip(f"no guest image in {cache}; tests/lab/build-guest makes it")


def own_network(networks=1):
    """Goes on in a network namespace of its own, where this side is 10.77.0.1; see tests/lab/with-net."""
    if os.environ.get("PALISADE_NETWORK") != str(networks):
        os.environ["PALISADE_NETWORK"] = str(networks)
        probe = subprocess.run([LAB / "with-net", "-n", str(networks), "true"], capture_output=True, text=True)
        if probe.returncode != 0:
            print(f"skip {SUITE}: no network namespace of its own: {probe.stderr.strip()}")
            print("0 passed, 0 failed, 1 skipped")
            sys.exit(0)
        os.execv(LAB / "with-net", [LAB / "with-net", "-n", str(networks), sys.executable, *sys.argv])


_cleanups = contextlib.ExitStack()
_scratch = None


def scratch():
    """The suite's folder for data: on a disk, with a short name, as a unix socket's path has 107 bytes at most."""
    global _scratch
    if _scratch is None:
        _scratch = pathlib.Path(tempfile.mkdtemp(prefix="palisade-", dir=os.environ.get("PALISADE_SCRATCH", "/var/tmp")))
        if not os.environ.get("PALISADE_KEEP"):
            _cleanups.callback(shutil.rmtree, _scratch, ignore_errors=True)
    return _scratch


def main():
    """Runs the checks, or those whose name has one of the arguments in it, in order, and exits."""
    wanted = [a for a in sys.argv[1:] if not a.startswith("-")]
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    counts = Tally(0, 0, 0)
    with _cleanups:
        if not BINARY.exists():
            print(f"FAIL {SUITE}: there is no {BINARY}; cargo build --release makes it")
            print(f"0 passed, {len(_checks)} failed, 0 skipped")
            sys.exit(1)
        missing = ""
        for what, function, vital in _checks:
            if vital or not wanted or any(w in what for w in wanted):
                tally = _run(what, function, missing)
                if vital and not tally.passed:
                    missing = what
                counts = Tally(*(getattr(counts, n) + getattr(tally, n) for n in ("passed", "failed", "skipped")))
    print(f"{counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped", flush=True)
    sys.exit(1 if counts.failed else 0)


def _run(what, function, missing):
    start, mark, why, tally = time.monotonic(), "ok", "", None
    try:
        expect(not missing, f"cannot run without: {missing}")
        tally = function()
    except Skip as skip:
        mark, why = "skip", f": {skip}"
    except Failure as failure:
        mark, why = "FAIL", f": {failure}"
    except Exception as error:  # whatever it was, the other checks still run
        traceback.print_exc(file=sys.stdout)
        mark, why = "FAIL", f": {type(error).__name__}: {error}"
    if tally and tally.failed:
        mark = "FAIL"
    print(f"{mark} {what} ({time.monotonic() - start:.1f} s){why}", flush=True)
    return tally or Tally(mark == "ok", mark == "FAIL", mark == "skip")


def note(text):
    """A line of information in the suite's log."""
    print(f"     {text}", flush=True)


def free_port():
    """A TCP port that nothing listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def raise_file_limit(wanted):
    """Lets this process, and the servers it starts, have `wanted` open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
        except (ValueError, PermissionError):
            raise Skip(f"at most {hard} open files here; {wanted} needed")


class CommandFailed(Failure):
    """A `palisade` command ended with another status than 0."""

    def __init__(self, arguments, run):
        super().__init__(f"palisade {' '.join(arguments)}: status {run.returncode}: {(run.stderr or run.stdout).strip()}")
        self.status, self.stdout, self.stderr = run.returncode, run.stdout, run.stderr


def palisade(*arguments, data=None, timeout=60):
    """Runs `palisade ARGUMENTS` and returns what it printed; raises `CommandFailed`."""
    arguments = [str(a) for a in arguments]
    env = {**os.environ, **({"PALISADE_DATA": str(data)} if data else {})}
    run = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=timeout, env=env)
    if run.returncode != 0:
        raise CommandFailed(arguments, run)
    return run.stdout


def palisade_json(*arguments, data=None, timeout=60):
    """Runs `palisade ARGUMENTS --json` and returns the value it printed."""
    return json.loads(palisade(*arguments, "--json", data=data, timeout=timeout))


def _die_with_parent():
    """In a child: ends with the suite, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


_servers = 0


class Server:
    """A running `palisade serve` on a data folder and a free port."""

    def __init__(self, data=None, host="127.0.0.1", port=None, arguments=(), name=None):
        global _servers
        _servers += 1
        self.name = name or f"server{_servers}"
        self.data = pathlib.Path(data) if data else scratch() / self.name
        self.host, self.port = host, port or free_port()
        self.arguments = [str(a) for a in arguments]
        self.log = LOGS / f"{self.name}.log"
        self.process = None
        _cleanups.callback(self.kill)

    @property
    def portal(self):
        return f"{self.host}:{self.port}"

    def start(self, wait=True):
        """Starts it; with `wait`, returns when it answers, with the seconds that took."""
        command = [BINARY, "serve", "--data", self.data, "--portal", self.portal, *self.arguments]
        begun = time.monotonic()
        with open(self.log, "a") as log:
            log.write(f"---- {time.strftime('%H:%M:%S')} {' '.join(map(str, command))}\n")
            log.flush()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        if wait:
            self.wait_ready()
        return time.monotonic() - begun

    def wait_ready(self, seconds=READY_SECONDS):
        """Waits until its portal accepts and its API answers."""
        end = time.monotonic() + seconds
        while True:
            expect(self.process.poll() is None, lambda: f"the server ended with {self.process.returncode}:\n{self.tail()}")
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
                break
            expect(time.monotonic() < end, lambda: f"the server did not listen within {seconds} s:\n{self.tail()}")
            time.sleep(0.02)
        while True:
            try:
                return palisade_json("status", data=self.data)
            except CommandFailed as error:
                expect(time.monotonic() < end, lambda: f"no answer within {seconds} s: {error}\n{self.tail()}")
                time.sleep(0.05)

    def kill(self):
        """Ends it as a power failure of the process would: SIGKILL."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()

    def stop(self, seconds=20):
        """Ends it in order with SIGTERM; it has to obey with status 0."""
        self.process.terminate()
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"the server did not end within {seconds} s of SIGTERM:\n{self.tail()}")
        expect(status == 0, lambda: f"the server ended with {status} after SIGTERM:\n{self.tail()}")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def tail(self, lines=15):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def cli(self, *arguments, **options):
        return palisade(*arguments, data=self.data, **options)

    def json(self, *arguments, **options):
        return palisade_json(*arguments, data=self.data, **options)

    def rss(self):
        """Resident memory of the process in bytes."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * KIB
        raise Failure("the server has no resident memory")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def pool(self, name="p", size="2GiB", ram=False):
        """Creates a pool of one disk: a sparse file in the scratch folder, or memory."""
        disk = f"ram:{size}" if ram else f"{scratch()}/{self.name}-{name}.disk:{size}"
        self.cli("pool", "create", name, "--disk", disk)

    def volume(self, name, size, *arguments, hosts=(INITIATOR,)):
        """Creates a volume and grants it to these initiators; returns its IQN and LUN."""
        self.cli("volume", "create", name, size, *arguments)
        known = {h["name"] for h in self.json("host", "list")}
        for iqn in hosts:
            host = "any" if iqn == ANY else iqn.rsplit(":", 1)[-1]
            if host not in known:
                addresses = [word for a in LAB_ADDRESSES for word in ("--address", a)] if iqn == ANY else []
                self.cli("host", "create", host, "--iqn", iqn, *addresses)
                known.add(host)
            self.cli("volume", "grant", name, host)
        return self.address(name)

    def address(self, name):
        """The IQN and LUN of a volume."""
        volume = self.json("volume", "show", name)
        return volume["iqn"], volume.get("lun", 0)

    def url(self, name, initiator=None):
        iqn, lun = self.address(name)
        return f"iscsi://{self.portal}/{iqn}/{lun}"


def guest_name(id):
    """The initiator name of the lab's guest number `id`."""
    return f"iqn.2024-01.lab.client:guest{id}"


def guest(script, *arguments, id=10, options=(), seconds=300, env=None):
    """Starts `tests/lab/guest` with a script of tests/lab/guest-scripts; its output goes to the suite's logs."""
    command = [LAB / "guest", "-i", str(id), "-t", str(seconds), *options]
    log = open(LOGS / f"guest{id}-{pathlib.Path(script).stem}.log", "w")
    process = subprocess.Popen(
        [*map(str, command), LAB / "guest-scripts" / script, *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})},
    )
    # Not killed with the suite but asked to end, so that it takes QEMU and its network card along.
    _cleanups.callback(process.terminate)
    process.log = pathlib.Path(log.name)
    return process


def guest_ended(process, seconds=900):
    """Waits for a guest; its script must have succeeded. Returns its output."""
    status = process.wait(seconds)
    text = process.log.read_text(errors="replace")
    expect(status == 0, lambda: f"the guest's script ended with {status}:\n" + "\n".join(text.splitlines()[-25:]))
    return text
