#!/usr/bin/python3
"""libiscsi's conformance suite with data loss, compared with the results that are kept"""

# Without arguments each test that is kept as passed (conformance.passed) has to pass, and none may fail that is not
# explained in conformance.known. `--update` writes conformance.passed and docs/conformance.md anew.

import subprocess
import sys
import time

from harness import ANY, LAB, LOGS, ROOT, Server, Tally, check, expect, main, need, note

HERE = ROOT / "tests/e2e"
PASSED, KNOWN, PAGE = HERE / "conformance.passed", HERE / "conformance.known", ROOT / "docs/conformance.md"
MARKS = ("passed", "skipped", "failed", "hung", "died")


def known():
    """Tests that may fail, with the reason."""
    lines = KNOWN.read_text().splitlines() if KNOWN.exists() else []
    pairs = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    return {name: reason for name, reason in pairs}


def run(block_size):
    """Runs the whole suite against a new volume; returns the mark of each test."""
    server = Server()
    server.start()
    server.pool(size="3GiB")
    server.volume("conformance", "1GiB", "--block-size", block_size, hosts=(ANY,))
    results = LOGS / f"results-{block_size}"
    with open(LOGS / f"iscsi-test-cu-{block_size}.log", "w") as log:
        subprocess.run([LAB / "conformance", "-o", results, server.url("conformance")], stdout=log, stderr=log, timeout=1800)
    expect(server.alive(), lambda: f"the server did not survive:\n{server.tail()}")
    server.stop()
    return {name: mark for mark, name in (line.split(None, 1) for line in results.read_text().splitlines())}


def write_page(results, seconds):
    """docs/conformance.md: counts, and every test that did not pass."""
    version = subprocess.run(["dpkg-query", "-W", "-f=${Version}", "libiscsi-bin"], capture_output=True, text=True).stdout
    rows = "".join(f"| {mark} | {sum(m == mark for m in results.values())} |\n" for mark in MARKS)
    reasons = known()
    failed = [n for n, m in results.items() if m not in ("passed", "skipped")]
    listed = "".join(f"- `{n}`: {reasons.get(n, 'not explained')}\n" for n in failed) or "None.\n"
    skipped = "".join(f"- `{n}`\n" for n, m in results.items() if m == "skipped") or "None.\n"
    PAGE.write_text(
        f"# Conformance\n\nlibiscsi's `iscsi-test-cu --dataloss` (Debian package libiscsi-bin {version}), the whole suite of "
        f"{len(results)} tests, against a thin volume of 1 GiB with blocks of 512 bytes. "
        "`tests/e2e/conformance.py --update` writes this page.\n\n"
        f"| result | tests |\n|---|---|\n{rows}\n## Failed\n\n{listed}\n## Skipped by the suite\n\n"
        "The suite skips a test when the unit does not report the command or feature it is about.\n\n" + skipped
    )
    note(f"wrote {PAGE.relative_to(ROOT)} and {PASSED.relative_to(ROOT)} ({seconds:.0f} s)")


@check("iscsi-test-cu")
def whole_suite():
    need("iscsi-test-cu")
    begun = time.monotonic()
    results = run(512)
    if "--update" in sys.argv:
        PASSED.write_text("".join(f"{n}\n" for n, m in sorted(results.items()) if m == "passed"))
        write_page(results, time.monotonic() - begun)
    kept = PASSED.read_text().split() if PASSED.exists() else []
    reasons = known()
    tally = Tally(0, 0, 0)
    for name in sorted({*results, *kept}):
        mark = results.get(name, "missing")
        if mark == "passed":
            tally.passed += 1
        elif mark == "skipped" and name not in kept:
            tally.skipped += 1
        elif name in reasons:
            tally.skipped += 1
            print(f"skip {name}: {mark}; {reasons[name]}")
        else:
            tally.failed += 1
            print(f"FAIL {name}: {mark}" + (", and passed before" if name in kept else ""))
    fresh = [n for n, m in results.items() if m == "passed" and n not in kept]
    if fresh:
        note(f"{len(fresh)} tests pass that are not kept as passed: --update keeps them")
    note(f"{tally.skipped} of {len(results)} tests are about what this unit does not report")
    return tally


@check("a volume with blocks of 4096 bytes fails nothing either")
def large_blocks():
    need("iscsi-test-cu")
    results = run(4096)
    reasons = known()
    bad = [f"{n} {m}" for n, m in results.items() if m not in ("passed", "skipped") and n not in reasons]
    expect(not bad, ", ".join(bad))
    passed = sum(m == "passed" for m in results.values())
    note(f"{passed} of {len(results)} tests passed")


if __name__ == "__main__":
    main()
