import sys

from workers.targets.kubernetes.pod.carrying import carry_in
from workers.targets.kubernetes.pod.companion import accompany
from workers.targets.kubernetes.pod.folders import Pod
from workers.targets.kubernetes.pod.running import run

PROGRAMS = {"carry-in": carry_in, "run": run, "accompany": accompany}

if __name__ == "__main__":
    sys.exit(PROGRAMS[sys.argv[1]](Pod.from_environment()))
