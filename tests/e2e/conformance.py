#!/usr/bin/python3
"""libiscsi's conformance suite with data loss, compared with the results that are kept"""

# Without arguments each test that is kept as passed (conformance.passed) has to pass, none may fail that is not
# explained in conformance.known, and none may be skipped that is not explained in conformance.skipped. `--update`
# writes conformance.passed and docs/conformance.md anew.

import fnmatch
import os
import subprocess
import sys
import time

from harness import ANY, LAB, LOGS, ROOT, Server, Tally, check, expect, free_port, main, need, note

HERE = ROOT / "tests/e2e"
PASSED, PAGE = HERE / "conformance.passed", ROOT / "docs/conformance.md"
MARKS = ("passed", "skipped", "failed", "hung", "died")
SUITE_SECONDS = 3000


class Reasons:
    """What a file of `SUITE.TEST REASON` lines explains."""

    def __init__(self, name):
        lines = (HERE / name).read_text().splitlines()
        self.pairs = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
        self.used = set()

    def of(self, test):
        """Why, or None."""
        for pattern, reason in self.pairs:
            if fnmatch.fnmatchcase(test, pattern):
                self.used.add(pattern)
                return reason
        return None

    def unused(self):
        return [pattern for pattern, _ in self.pairs if pattern not in self.used]


KNOWN, SKIPPED = Reasons("conformance.known"), Reasons("conformance.skipped")


# What can only be tested of a unit that is granted for reading.
READ_ONLY_SUITE = "ReadOnly"
# The test that looks twice, 5 s apart, whether SANITIZE goes on: it has a volume of its own in a pool that is large enough.
LONG_TEST, LONG_POOL = "Sanitize.Reset", "256GiB"
# That test waits for the end of the operation in steps of 60 s, during which it answers no NOP-In, so that its session ends
# after 30 s, and the next one hears of that first, for ever. Steps of 5 s have no other effect: what it checks it has
# checked before.
SHORT_SLEEPS = """
#include <time.h>
unsigned sleep(unsigned seconds) {
    struct timespec time = { seconds > 5 ? 5 : seconds, 0 };
    nanosleep(&time, 0);
    return 0;
}
"""


def with_short_sleeps():
    """The environment for programs of which no sleep is longer than 5 s."""
    library = LOGS / "short-sleeps.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-"], input=SHORT_SLEEPS, text=True, check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


def suites():
    """The names of all suites, but that of LONG_TEST by its other tests: each of them then has a process of its own."""
    listed = subprocess.run(["iscsi-test-cu", "-l"], capture_output=True, text=True).stdout.split()
    names = [name.removeprefix("ALL.") for name in listed if name.startswith("ALL.")]
    split = LONG_TEST.split(".")[0]
    return dict.fromkeys(
        name if name.startswith(f"{split}.") else name.split(".")[0] for name in names if name not in (split, LONG_TEST)
    )


def run(block_size):
    """Runs the whole suite against a new volume by two portals, and ReadOnly against one that is granted read-only;
    returns the mark of each test."""
    second = free_port()
    server = Server(arguments=("--portal", f"127.0.0.1:{second}"))
    server.start()
    # As large as it takes for atomic writes of 256 blocks of 4096 bytes; the file holds what is written.
    server.pool(size="8GiB")
    server.volume("conformance", "1GiB", "--block-size", block_size, hosts=(ANY,))
    results = LOGS / f"results-{block_size}"
    first = server.url("conformance")
    urls = [first, first.replace(server.portal, f"127.0.0.1:{second}")]
    others = [word for suite in suites() for word in ("-s", suite)]
    with open(LOGS / f"iscsi-test-cu-{block_size}.log", "w") as log:
        command = [LAB / "conformance", "-t", "400", "-o", results, *others, *urls]
        subprocess.run(command, stdout=log, stderr=log, timeout=SUITE_SECONDS)
        of_long = LOGS / f"results-{block_size}-long"
        server.pool("large", size=LONG_POOL)
        server.volume("long", "1GiB", "--pool", "large", "--block-size", block_size, hosts=(ANY,))
        command = [LAB / "conformance", "-t", "400", "-o", of_long, "-s", LONG_TEST, server.url("long")]
        subprocess.run(command, stdout=log, stderr=log, timeout=SUITE_SECONDS, env=with_short_sleeps())
        of_read_only = LOGS / f"results-{block_size}-read-only"
        server.cli("volume", "create", "read-only", "1GiB", "--pool", "p", "--block-size", block_size)
        server.cli("volume", "grant", "read-only", "any", "--read-only")
        command = [LAB / "conformance", "-t", "400", "-o", of_read_only, "-s", READ_ONLY_SUITE, server.url("read-only")]
        subprocess.run(command, stdout=log, stderr=log, timeout=SUITE_SECONDS)
    expect(server.alive(), lambda: f"the server did not survive:\n{server.tail()}")
    server.stop()
    # A third word, if any, is what the suite says of a skipped test.
    lines = [line for file in (results, of_long, of_read_only) for line in file.read_text().splitlines()]
    return {line.split()[1]: line.split()[0] for line in lines}


def write_page(by_size, seconds):
    """docs/conformance.md: counts, and every test that did not pass, with the reason."""
    version = subprocess.run(["dpkg-query", "-W", "-f=${Version}", "libiscsi-bin"], capture_output=True, text=True).stdout
    sizes = list(by_size)
    count = lambda size, mark: sum(m == mark for m in by_size[size].values())
    rows = "".join(f"| {mark} | {' | '.join(str(count(size, mark)) for size in sizes)} |\n" for mark in MARKS)

    def listed(marks, reasons):
        names = sorted({n for results in by_size.values() for n, m in results.items() if m in marks})
        lines = []
        for name in names:
            where = [str(size) for size in sizes if by_size[size].get(name) in marks]
            only = "" if len(where) == len(sizes) else f" (blocks of {', '.join(where)} bytes only)"
            lines.append(f"- `{name}`{only}: {reasons.of(name) or 'not explained'}\n")
        return "".join(lines) or "None.\n"

    head = " | ".join(f"blocks of {size}" for size in sizes)
    PAGE.write_text(
        f"# Conformance\n\nlibiscsi's `iscsi-test-cu --dataloss --allow-sanitize` (Debian package libiscsi-bin {version}), the "
        f"whole suite of {len(by_size[sizes[0]])} tests, through two portals against a thin volume of 1 GiB; "
        f"{LONG_TEST} against one in a pool of {LONG_POOL}, large enough for it to find the operation under way twice, and with "
        "its waiting between two polls, in which it answers no NOP-In, cut from 60 s to 5; the suite "
        f"{READ_ONLY_SUITE} once more against one that is granted read-only. "
        "`tests/e2e/conformance.py --update` writes this page; without `--update` it fails if a test that passed does not any "
        "more, or if one fails or is skipped without a reason here.\n\n"
        f"| result | {head} |\n|---|{'---|' * len(sizes)}\n{rows}\n## Failed\n\n"
        f"{listed(('failed', 'hung', 'died'), KNOWN)}\n## Skipped by the suite\n\n"
        "The suite skips a test when the unit does not report the command or feature it is about.\n\n"
        f"{listed(('skipped',), SKIPPED)}"
    )
    note(f"wrote {PAGE.relative_to(ROOT)} and {PASSED.relative_to(ROOT)} ({seconds:.0f} s)")


def judge(results, kept):
    """A line for each test that is not as it should be."""
    tally = Tally(0, 0, 0)
    for name in sorted({*results, *kept}):
        mark = results.get(name, "missing")
        reason = SKIPPED.of(name) if mark == "skipped" else KNOWN.of(name)
        if mark == "passed":
            tally.passed += 1
        elif reason and name not in kept:
            tally.skipped += 1
            if mark != "skipped":
                print(f"skip {name}: {mark}; {reason}")
        else:
            tally.failed += 1
            print(f"FAIL {name}: {mark}" + (", and passed before" if name in kept else ", and nobody says why"))
    return tally


RESULTS = {}


@check("iscsi-test-cu")
def whole_suite():
    need("iscsi-test-cu")
    RESULTS[512] = run(512)
    if "--update" in sys.argv:
        PASSED.write_text("".join(f"{n}\n" for n, m in sorted(RESULTS[512].items()) if m == "passed"))
    kept = PASSED.read_text().split() if PASSED.exists() else []
    tally = judge(RESULTS[512], kept)
    fresh = [n for n, m in RESULTS[512].items() if m == "passed" and n not in kept]
    if fresh:
        note(f"{len(fresh)} tests pass that are not kept as passed: --update keeps them")
    return tally


@check("iscsi-test-cu, blocks of 4096 bytes")
def large_blocks():
    need("iscsi-test-cu")
    begun = time.monotonic()
    RESULTS[4096] = run(4096)
    if "--update" in sys.argv and 512 in RESULTS:
        write_page(RESULTS, time.monotonic() - begun)
    return judge(RESULTS[4096], [])


@check("every explanation explains something")
def explanations():
    if len(RESULTS) == 2:
        stale = KNOWN.unused() + SKIPPED.unused()
        expect(not stale, f"not needed any more: {', '.join(stale)}")


if __name__ == "__main__":
    main()
