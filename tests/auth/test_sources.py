"""Where a call comes from."""

from ipaddress import ip_network

import pytest

from services.auth.domain.sources import source

GATEWAYS = (ip_network("127.0.0.0/8"), ip_network("10.1.0.0/16"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("ipv4:203.0.113.7:5000", "", "203.0.113.7"),
        ("ipv4:203.0.113.7:5000", "198.51.100.1", "203.0.113.7"),
        ("ipv4:127.0.0.1:5000", "198.51.100.1", "198.51.100.1"),
        ("ipv4:10.1.2.3:5000", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("ipv4:127.0.0.1:5000", "nonsense", "127.0.0.1"),
        ("ipv6:%5B2001:db8:1:2:3::9%5D:5000", "", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2:3::9]:5000", "", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:127.0.0.1%5D:5000", "2001:db8::1", "2001:db8::/64"),
        ("unix:/run/portolan.sock", "198.51.100.1", "unix"),
    ],
)
def test_the_source_is_what_the_last_trusted_hop_saw(peer: str, forwarded_for: str, expected: str) -> None:
    assert source(peer, forwarded_for, GATEWAYS) == expected
