"""Carrying in, before the program: the folders, what is to run, the secrets, and the inputs, verified."""

from __future__ import annotations

import os

from workers.targets.carry import carry
from workers.targets.kubernetes.pod.folders import FOLDERS, Pod
from workers.targets.process.files import write_whole

SECRET = "secret."  # noqa: S105 - the beginning of a file's name


def carry_in(pod: Pod) -> int:
    os.umask(0o022)
    for folder in FOLDERS:
        (pod.work / folder).mkdir(exist_ok=True)
    workload = pod.granted_workload()
    for file in pod.grants.iterdir():
        if file.name.startswith(SECRET):
            write_whole(pod.work / "secrets" / file.name.removeprefix(SECRET), file.read_bytes(), 0o400)
    write_whole(pod.work / "live" / "workload.json", (pod.grants / "workload.json").read_bytes(), 0o444)
    said = carry("in", pod.work, workload, pod.grants / "grants.json")
    pod.tell(said)
    if "outputs" in said:
        return 0
    print(f"windlass: {said['message']}", flush=True)
    return 1
