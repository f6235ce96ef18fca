"""Which addresses a Kubernetes that somebody brings may have.

A kubeconfig names the server that our workers connect to, so it must not lead them to this machine, to a cloud's
metadata service, or into the network around us, unless an administrator allowed that network.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

# Addresses within which another one, of IPv4, is reached.
MAPPED, COMPATIBLE = IPv6Network("::ffff:0:0/96"), IPv6Network("::/96")
NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
SIX_TO_FOUR, TEREDO = IPv6Network("2002::/16"), IPv6Network("2001::/32")


def refusal(address: str, allowed: Iterable[str]) -> str:
    """Why nobody may be sent to this address, in words that follow its name ("is private, ..."); "" where it is free.

    `allowed`: networks in CIDR form. Raises ValueError for what is no IP address.
    """
    found = ip_address(address.partition("%")[0])  # a zone names one of our own interfaces
    if any(found in ip_network(network) for network in allowed):
        return ""
    kind = _kind(found)
    if not kind:
        return ""
    fix = f"an administrator can allow it: WINDLASS_ALLOWED_PRIVATE_CIDRS={found}/{found.max_prefixlen}"
    return f"is {kind}, where Windlass does not connect for anybody unless told to; {fix}"


def _kind(found: IPv4Address | IPv6Address) -> str:
    """What kind of address it is that is not on the internet; "" for one that is."""
    if found.is_unspecified:
        return "unspecified"
    if found.is_loopback:
        return "loopback"
    if isinstance(found, IPv6Address):
        if any(found in network for network in (MAPPED, COMPATIBLE, *NAT64, SIX_TO_FOUR, TEREDO)):
            return "an IPv4 address in disguise"
        if found.is_site_local:
            return "private"
    if found.is_link_local:
        return "link-local"
    if found.is_multicast:
        return "multicast"
    return "" if found.is_global else "private"
