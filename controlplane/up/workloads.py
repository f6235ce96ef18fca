"""Stop the workloads of this host: `python -m controlplane.up.workloads DIRECTORY GRACE_SECONDS`.

A process of its own, so that the supervisor stays small and can hurry it.
"""

import sys
from pathlib import Path

from workers.targets.process.target import stop_all

if __name__ == "__main__":
    stop_all(Path(sys.argv[1]), float(sys.argv[2]))
