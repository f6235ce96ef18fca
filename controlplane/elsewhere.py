"""The blob store as a host that joined sees it."""

from django.core.files.storage import Storage


class Elsewhere(Storage):
    """Out of reach: nothing is read, written or removed here, and workloads get addresses instead of paths."""

    within_reach = False
