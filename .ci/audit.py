"""make audit: known advisories of the pinned requirements, by pip-audit. python .ci/audit.py PIP_AUDIT REQUIREMENTS …

Exit status 0: every requirement was looked up and none has an advisory. 1: some have, and are named. 2: some could not
be looked up, which says nothing about them.
"""

from __future__ import annotations

import json
import subprocess
import sys

NAMED = 5


def verdict(stdout: str, stderr: str) -> tuple[int, list[str]]:
    """Exit status and lines, from what pip-audit said."""
    try:
        found = json.loads(stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
        return 2, [f"audit: the advisories cannot be had, nothing was checked: {last}"]
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}; mended in {', '.join(flaw['fix_versions']) or 'no version'}"
        for one in found
        for flaw in one.get("vulns", ())
    ]
    unknown = [one["name"] for one in found if "skip_reason" in one]
    looked_up = len(found) - len(unknown)
    if not looked_up:
        return 2, ["audit: the advisories cannot be had here, nothing was checked; run it where pypi.org answers"]
    told = f"audit: {len(lines)} advisories for {looked_up} of {len(found)} pinned packages"
    if unknown:
        told += f"; not looked up: {', '.join(unknown[:NAMED])}{', …' if len(unknown) > NAMED else ''}"
    return (1 if lines else 2 if unknown else 0), [*lines, told]


def main() -> int:
    program, *files = sys.argv[1:]
    order = [program, "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    for file in files:
        order += ["-r", file]
    done = subprocess.run(order, capture_output=True, text=True)
    status, lines = verdict(done.stdout, done.stderr)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
