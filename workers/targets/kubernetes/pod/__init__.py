"""The three programs of ours in a pod: what carries inputs in, what runs the program, what accompanies it.

    python -m workers.targets.kubernetes.pod carry-in     init container; sees the grants and the whole of /work
    python -m workers.targets.kubernetes.pod run          around the program; sees only the folders that are its
    python -m workers.targets.kubernetes.pod accompany    beside it; sees the grants and the whole of /work

They know places only from their environment: WINDLASS_WORK (folders in live out metrics state tmp secrets),
WINDLASS_GRANTS (workload.json, grants.json, replica.json, secret.<name>; not in the program's container),
WINDLASS_TERMINATION_LOG, WINDLASS_NODE_RANK (0 where unset), WINDLASS_POD (the pod's name), and for a service's
program WINDLASS_ADDRESS and WINDLASS_PORT. No Django, and nothing of Kubernetes: they run wherever folders are.
"""
