"""Where a call comes from, as far as failed sign-ins are counted by it."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote

IPV6_PREFIX = 64


def source(peer: str, forwarded_for: str, trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """The caller's address, or its /64 network in IPv6, where each customer has a network and not an address.

    `peer` is gRPC's name of the other end. When that is a gateway of ours, it has put the address of its own
    peer behind all that the caller claims, so the last address of `x-forwarded-for` counts.
    """
    address = _address(unquote(peer.partition(":")[2].rpartition(":")[0]))
    if address is None:
        return peer.partition(":")[0]
    if any(address in network for network in trusted):
        address = _address(forwarded_for.rpartition(",")[2].strip()) or address
    if isinstance(address, IPv6Address):
        return str(ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
