"""Which hosts and paths may be reached, held against the spellings of those who try."""

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.databases import hosts, paths
from kernel.databases.errors import HostRefusedError, PathRefusedError
from kernel.databases.hosts import HostPolicy

OPEN = HostPolicy()
LOCAL = HostPolicy(allow_loopback=True)
PUBLIC = HostPolicy(allow_private_networks=False)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "127.0.0.1.", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1",
        "017700000001", "0", str(ipaddress.IPv4Address(0)), "::", "::1", "[::1]", "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::",
        "2001:0:4136:e378:8000:63bf:80ff:fffe", "169.254.169.254", "::ffff:169.254.169.254",
        "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "224.0.0.1",
        "ff02::1", "255.255.255.255", "240.0.0.1", "localhost", "LOCALHOST", "localhost.", "", " ",
        "a b", "a/b", "a@b", "a,b", "/var/run/postgresql", "a:5432", "%31", "１２７.０.０.１",
        "①②⑦.0.0.1", "127。0。0。1", "a\0b", "a\nb", "-a", "x" * 64 + ".example",
        "no-such-host.invalid",
    ],
)  # fmt: skip
def test_a_host_that_leads_inside_or_nowhere_is_refused(host: str) -> None:
    with pytest.raises(HostRefusedError):
        hosts.resolve(host, OPEN)


def test_all_refusals_read_the_same() -> None:
    messages = set()
    for host in ("127.0.0.1", "no-such-host.invalid", "a b", "169.254.169.254"):
        with pytest.raises(HostRefusedError) as caught:
            hosts.resolve(host, OPEN)
        messages.add(caught.value.message)
    assert len(messages) == 1


def test_loopback_is_reached_only_where_the_policy_says_so() -> None:
    assert hosts.resolve("127.0.0.1", LOCAL) == "127.0.0.1"
    assert hosts.resolve("localhost", LOCAL) in {"127.0.0.1", "::1"}
    with pytest.raises(HostRefusedError):
        hosts.resolve("169.254.169.254", LOCAL)


def test_private_networks_are_reached_unless_the_policy_forbids_them() -> None:
    for host in ("10.1.2.3", "172.16.0.9", "192.168.1.1", "fd12:3456::1"):
        assert hosts.resolve(host, OPEN) == host
        with pytest.raises(HostRefusedError):
            hosts.resolve(host, PUBLIC)
    assert hosts.resolve("93.184.216.34", PUBLIC) == "93.184.216.34"
    with pytest.raises(HostRefusedError):
        hosts.resolve("::ffff:10.1.2.3", PUBLIC)


@settings(deadline=None)
@given(st.ip_addresses(network="127.0.0.0/8") | st.ip_addresses(network="169.254.0.0/16"))
def test_an_inner_address_is_refused_in_every_form_of_ipv6(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    for form in (
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
        ipaddress.IPv6Address((0x20010000 << 96) | (~number & 0xFFFFFFFF)),
    ):
        assert not OPEN.allows(form)


def test_a_path_lies_inside_one_of_the_folders(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (first / "out").symlink_to(tmp_path)
    (first / "across").symlink_to(second)
    folders = (first, second)
    assert paths.resolve("a/b.db", folders) == (first / "a" / "b.db").resolve()
    assert paths.resolve(str(second / "c"), folders) == (second / "c").resolve()
    assert paths.resolve("across/c", folders) == (second / "c").resolve()
    for path in (
        "..",
        "../third",
        "a/../../x",
        "out",
        "out/x",
        "/etc/passwd",
        "",
        ".",
        "a\0b",
        "~/x/../../../..",
    ):
        with pytest.raises(PathRefusedError):
            paths.resolve(path, folders)
    with pytest.raises(PathRefusedError):
        paths.resolve(str(tmp_path / "firsthand"), folders)


def test_what_is_the_installations_own_is_refused_by_every_way_to_it(tmp_path: Path) -> None:
    (tmp_path / "home" / "keys").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(tmp_path / "home" / "auth.db")
    own = (tmp_path / "home" / "keys", tmp_path / "home" / "auth.db")
    assert (
        paths.resolve("home/warehouse.db", (tmp_path,), own) == (tmp_path / "home" / "warehouse.db").resolve()
    )
    for path in ("home/keys", "home/keys/auth.key.pem", "home/auth.db", "home/x/../auth.db", "alias", "home"):
        with pytest.raises(PathRefusedError):
            paths.resolve(path, (tmp_path,), own)
