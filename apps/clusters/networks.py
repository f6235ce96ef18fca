"""Address ranges that people choose: the network of a cluster, and who may reach it from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, ip_network
from typing import Any

from apps.clouds.providers import CloudService
from apps.core.errors import FieldError

PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
# k3s gives its pods and services these: machines of the same addresses could not be told from them.
INSIDE = tuple(map(IPv4Network, ("10.42.0.0/16", "10.43.0.0/16")))
LARGEST, SMALLEST = 16, 24
USUAL = "10.20.0.0/16"
MOST_RANGES = 50  # a security group takes 60 rules unless its quota was raised
BROADEST = 8


def network(given: Mapping[str, Any], service: CloudService) -> tuple[dict[str, str], list[FieldError]]:
    """`given` is {"cidr"} for a network of its own, {"vpc_id"} for one that is there, or empty for the usual one."""
    if not given:
        return {"cidr": USUAL}, []
    if len(given) != 1 or not {"cidr", "vpc_id"} & given.keys():
        fix = f'{{"cidr": "{USUAL}"}} or {{"vpc_id": "{service.network_example}"}} would work.'
        return {}, [FieldError("network", "A network is a cidr of its own, or the vpc_id of one that is there.", fix)]
    if "vpc_id" in given:
        vpc_id = str(given["vpc_id"])
        if service.network.fullmatch(vpc_id):
            return {"vpc_id": vpc_id}, []
        detail = f"“{vpc_id[:60]}” is no id of a network of {service.title}."
        return {}, [FieldError("network.vpc_id", detail, f"“{service.network_example}” would be one.")]
    found, why = _range(given["cidr"])
    if found is not None:
        why = _network_refusal(found)
    if found is None or why:
        return {}, [FieldError("network.cidr", why, f"“{USUAL}” would work.")]
    return {"cidr": str(found)}, []


def _network_refusal(found: IPv4Network) -> str:
    if not any(found.subnet_of(private) for private in PRIVATE):
        return f"{found} is not private: use a range inside {', '.join(map(str, PRIVATE))}."
    if not LARGEST <= found.prefixlen <= SMALLEST:
        return f"{found} is too {'large' if found.prefixlen < LARGEST else 'small'}: use /{LARGEST} to /{SMALLEST}."
    for inside in INSIDE:
        if found.overlaps(inside):
            return f"{found} overlaps with {inside}, where the cluster's own pods and services are."
    return ""


def allowed_ranges(given: Sequence[Any], anyone: bool) -> tuple[list[str], list[FieldError]]:
    """Who may reach a cluster from outside; `anyone`: the whole internet too, if it is among them."""
    errors, ranges = [], []
    if len(given) > MOST_RANGES:
        errors.append(FieldError("allowed_cidrs", f"At most {MOST_RANGES} ranges fit.", "Put neighbours together."))
    for index, text in enumerate(given[:MOST_RANGES]):
        field = f"allowed_cidrs.{index}"
        found, why = _range(text)
        if found is None:
            errors.append(FieldError(field, why, "“203.0.113.7/32” would be one address, “203.0.113.0/24” its 256."))
        elif found.prefixlen < BROADEST and not anyone:
            detail = f"{found} would let {'anyone' if found.prefixlen == 0 else 'much of the internet'} try."
            errors.append(FieldError(field, detail, "Name your own addresses, or send allow_anyone: true as well."))
        elif str(found) not in ranges:
            ranges.append(str(found))
    return ranges, errors


def _range(text: Any) -> tuple[IPv4Network | None, str]:
    """The range, or why it is none."""
    shown = f"“{str(text)[:60]}”"
    try:
        found = ip_network(text if isinstance(text, str) else "")
    except ValueError as error:
        if "host bits" in str(error):
            return (
                None,
                f"{shown} is an address inside a range: its first address would be “{ip_network(text, False)}”.",
            )
        return None, f"{shown} is no range of addresses."
    if not isinstance(found, IPv4Network):
        return None, f"{shown} is a range of IPv6, which clusters do not speak yet."
    return found, ""
