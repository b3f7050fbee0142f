"""Which hosts connections may reach: the policy against requests that are forged to reach our own network.

Only what a name resolves to counts, never how it is written: the address that was checked is the one that is
connected to, so a name that resolves differently a moment later changes nothing.
"""

import ipaddress
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from kernel.databases.errors import HostRefusedError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)

LOOPBACK: tuple[Network, ...] = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))
PRIVATE: tuple[Network, ...] = (
    ipaddress.IPv4Network("10.0.0.0/8"),
    ipaddress.IPv4Network("172.16.0.0/12"),
    ipaddress.IPv4Network("192.168.0.0/16"),
    ipaddress.IPv6Network("fc00::/7"),
)
NEVER: tuple[Network, ...] = (
    ipaddress.IPv4Network("0.0.0.0/8"),  # this host
    ipaddress.IPv4Network("100.64.0.0/10"),  # shared by carriers; clouds keep metadata there
    ipaddress.IPv4Network("169.254.0.0/16"),  # link-local; clouds keep metadata there
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments
    ipaddress.IPv4Network("198.18.0.0/15"),  # benchmarks
    ipaddress.IPv4Network("224.0.0.0/4"),  # multicast
    ipaddress.IPv4Network("240.0.0.0/4"),  # reserved and broadcast
    ipaddress.IPv6Network("::/128"),  # this host
    ipaddress.IPv6Network("fe80::/10"),  # link-local
    ipaddress.IPv6Network("ff00::/8"),  # multicast
    ipaddress.IPv6Network("fd00:ec2::/32"),  # metadata of a cloud
)
EMBEDDING: tuple[tuple[ipaddress.IPv6Network, int], ...] = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # mapped
    (ipaddress.IPv6Network("::/96"), 0),  # compatible
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (ipaddress.IPv6Network("64:ff9b:1::/48"), 0),  # NAT64, local
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4
)
"""The forms in which an IPv6 address holds an IPv4 one, and how many bits stand behind it."""
TEREDO = ipaddress.IPv6Network("2001::/32")


@dataclass(frozen=True)
class HostPolicy:
    """What may be reached beside the open internet."""

    allow_loopback: bool = False
    allow_private_networks: bool = True

    def allows(self, address: Address) -> bool:
        """Whether an address may be connected to; an address inside it counts too."""
        return all(self._allows(form) for form in _forms(address))

    def _allows(self, address: Address) -> bool:
        if _in(address, LOOPBACK):
            return self.allow_loopback
        if _in(address, NEVER):
            return False
        return self.allow_private_networks or not _in(address, PRIVATE)


def resolve(host: str, policy: HostPolicy) -> str:
    """The address to connect to for a host; HostRefusedError where one of its addresses may not be reached.

    Whether a name does not exist or may not be reached is not told, so that nobody can map a network by it.
    """
    refusal = HostRefusedError("the host is none that connections may reach")
    try:
        addresses = [ipaddress.ip_address(host)]
    except ValueError:
        # A name that ends in a number is an address in disguise: 2852039166, 0xA9FEA9FE, 127.1.
        if not _NAME.fullmatch(host) or _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            raise refusal from None
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise refusal from None
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not addresses or not all(policy.allows(address) for address in addresses):
        raise refusal
    return str(addresses[0])


def _forms(address: Address) -> Iterator[Address]:
    """An address, and the IPv4 addresses that it leads to."""
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        for network, behind in EMBEDDING:
            if address in network and int(address) > 1:
                yield ipaddress.IPv4Address(int(address) >> behind & 0xFFFFFFFF)
        if address in TEREDO:
            yield ipaddress.IPv4Address(~int(address) & 0xFFFFFFFF)


def _in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
