"""A Kubernetes whose pods are real processes of this machine.

`kmock` parses the requests; the objects, a few controllers and a kubelet are here. What is not as in a real one: pods
share this machine's files, users and network (each has a loopback address of its own, 127.x.y.z); mounts are symbolic
links below a folder that stands for the container's root, and paths in its environment are changed to lie there; the
names `<job>-<n>.<service>` are replaced by that pod's address in environments and Secrets, for there is no DNS; nothing
is read-only, no user is changed; Deployments make their pods without a ReplicaSet, and there is no watch.
"""
