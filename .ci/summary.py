"""Adds up the test reports, refuses skips that nothing excuses, and prints the one closing line."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# Neither a missing browser nor a missing environment of the inference server is an excuse: .ci/run provides both. A machine that
# may not mount is one.
EXCUSED = ["GPU", "root may write everywhere", "FUSE: "]
if "SEMANTICKITTI_ROOT" not in os.environ:
    EXCUSED.append("SEMANTICKITTI_ROOT")


def main() -> int:
    passed = failed = skipped = 0
    unexcused = []
    for report in map(Path, sys.argv[1:]):
        if not report.is_file():
            print(f"missing report {report.name}")
            failed += 1
            continue
        for case in ElementTree.parse(report).iter("testcase"):
            skip = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            elif skip is not None:
                skipped += 1
                reason = skip.get("message", "")
                if not any(excuse.lower() in reason.lower() for excuse in EXCUSED):
                    unexcused.append(f"{case.get('classname')}.{case.get('name')}: {reason}")
            else:
                passed += 1
    for line in unexcused:
        print(f"skipped without an excuse: {line}")
    failed += len(unexcused)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
