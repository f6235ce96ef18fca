"""Logs by byte offset. Kubernetes gives a container's log from its beginning only, and forgets it with the container.

A job's containers run once, so offsets are those of the log. A service's start again, and another pod may take an
ordinal: each container's log begins at an offset made of when it was started, later than any offset before it.
"""

from __future__ import annotations

from apps.core import ids
from workers.targets.contract import Chunk, Refused
from workers.targets.kubernetes.client import Client, Missing
from workers.targets.kubernetes.paths import Paths
from workers.targets.kubernetes.pods import Pod, seconds_of

METRICS = "metrics-"
MOST_BYTES_OF_A_LOG = 16 * 1024**2  # `pod run` passes on no more than 8 MiB


def read_log(client: Client, at: Paths, pods: list[Pod], name: str, stream: str, offset: int, limit: int) -> Chunk:
    """Raises FileNotFoundError where there is no such stream."""
    metrics = stream.startswith(METRICS)
    number = stream.removeprefix(METRICS)
    pod = _pod(pods, int(number)) if number.isdecimal() else None
    container = "companion" if metrics else "program"
    if pod is None or not pod.has_log(container):
        raise FileNotFoundError(f"{name} has no stream {stream}.")
    base = 0 if pod.of_job else _base(name, pod)
    begins = max(base, offset)
    skip = begins - base
    if skip >= MOST_BYTES_OF_A_LOG:  # of a container later than this one: nothing here follows on that
        return Chunk(b"", offset, offset)
    try:
        data = client.log(at.pod(pod.name), container, skip + limit)[skip:]
    except (Missing, Refused) as error:
        raise FileNotFoundError(str(error)) from error
    return Chunk(data, begins, begins + len(data)) if data else Chunk(b"", offset, offset)


def _pod(pods: list[Pod], number: int) -> Pod | None:
    if pods and pods[0].of_job:
        return next((pod for pod in pods if pod.index == number), None)
    return pods[number] if number < len(pods) else None


def _base(name: str, pod: Pod) -> int:
    """Seconds from when the placement was made to when the container was started, in steps larger than any log."""
    row_id = ids.parse("plc", name.replace("-", "_", 1))
    made = (row_id.int >> 80) / 1000
    return max(0, int(seconds_of(pod.started_at) - made)) * MOST_BYTES_OF_A_LOG
