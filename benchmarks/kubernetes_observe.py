"""What one beat of 1,000 steady placements on one Kubernetes costs: requests, and seconds to read the answer.

python benchmarks/kubernetes_observe.py
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

PLACEMENTS, TURNS = 1000, 10


def main() -> int:
    import django

    django.setup()
    from tests.figures import measured, missed
    from tests.targets.kubernetes.conftest import RUNNING, Cluster, containers, name_of
    from workers.targets.kubernetes import observing
    from workers.targets.kubernetes.target import Wanted

    cluster = Cluster()
    names = [name_of(number) for number in range(PLACEMENTS)]
    ready = [{"type": "Ready", "status": "True"}]
    for name in names:
        cluster.api.pod(name, job=False, phase="Running", containerStatuses=containers(RUNNING), conditions=ready)
    cluster.wanted = dict.fromkeys(names, Wanted("service", 1))
    answer = json.dumps([item for path, item in cluster.api.objects.items() if "/pods/" in path])
    seconds = []
    for _turn in range(TURNS):
        began = time.process_time()
        pods = observing.by_placement(json.loads(answer))
        sight = observing.Sight("pods", time.time())
        for name, own in pods.items():
            if observing.steady(own, 1, job=False):
                observing.observe_service(name, own, None, sight)
        seconds.append(time.process_time() - began)
    cluster.target.observe(cluster.place)
    lists = {path for _method, path in cluster.api.calls}
    measured("lists in a beat of 1,000 steady placements", len(lists), "lists", "1", len(lists) == 1)
    took = statistics.median(seconds)
    measured("reading a list of 1,000 pods", round(took, 4), "s of a processor", "below 0.5", took < 0.5)
    return len(missed())


if __name__ == "__main__":
    sys.exit(main())
