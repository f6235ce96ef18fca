"""EC2's on-demand prices for Linux, in US dollars without tax: a small table of what Amazon published for AS_OF."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from workers.providers.contract import MachineOffer

AS_OF = date(2025, 6, 1)
REGIONS = ("us-east-1", "eu-west-1", "eu-central-1")
HOURS_A_MONTH = 730
ADDRESS_PER_HOUR = 0.005
DISK_GIB_PER_MONTH = {"us-east-1": 0.08, "eu-west-1": 0.088, "eu-central-1": 0.0952}  # gp3

# machine type: processors, GiB of memory, GPUs, then USD an hour in each of REGIONS
MACHINES: dict[str, tuple[int, int, int, tuple[float, float, float]]] = {
    "t3.medium": (2, 4, 0, (0.0416, 0.0456, 0.0480)),
    "t3.large": (2, 8, 0, (0.0832, 0.0912, 0.0960)),
    "t3.xlarge": (4, 16, 0, (0.1664, 0.1824, 0.1920)),
    "m6i.large": (2, 8, 0, (0.0960, 0.1070, 0.1150)),
    "m6i.xlarge": (4, 16, 0, (0.1920, 0.2140, 0.2300)),
    "m6i.4xlarge": (16, 64, 0, (0.7680, 0.8560, 0.9200)),
    "c6i.xlarge": (4, 8, 0, (0.1700, 0.1824, 0.1940)),
    "g4dn.xlarge": (4, 16, 1, (0.5260, 0.5870, 0.6580)),
    "g5.xlarge": (4, 16, 1, (1.0060, 1.1230, 1.2580)),
}


def offers() -> Iterable[MachineOffer]:
    for machine_type, (cpus, gib, gpus, prices) in MACHINES.items():
        for region, price in zip(REGIONS, prices, strict=True):
            yield MachineOffer(machine_type, region, cpus, gib * 1024**3, gpus, price, AS_OF)


def prices(region: str) -> dict[str, float]:
    """USD an hour of a GiB of disk and of a public address; of a region that is not here, of the dearest."""
    month = DISK_GIB_PER_MONTH.get(region, max(DISK_GIB_PER_MONTH.values()))
    return {"disk_gib": month / HOURS_A_MONTH, "address": ADDRESS_PER_HOUR}


def machine_price(machine_type: str, region: str) -> float:
    """USD an hour, 0.0 where it is not known."""
    found = MACHINES.get(machine_type)
    return found[3][REGIONS.index(region)] if found and region in REGIONS else 0.0
