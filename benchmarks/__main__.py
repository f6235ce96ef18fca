"""`python -m benchmarks [NAME ...]`: the benchmarks, each in a process of its own; all of them without a name."""

from __future__ import annotations

import subprocess
import sys

NAMES = ("serving", "gateway", "latency")


def main(names: list[str]) -> int:
    if unknown := sorted(set(names) - set(NAMES)):
        print(f"There is no benchmark {', '.join(unknown)}. There are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    codes = []
    for name in names or NAMES:
        print(f"\n== {name}", flush=True)
        codes.append(subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
