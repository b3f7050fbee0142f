"""A sealed secret opens where it belongs, with its key, unchanged; else not at all."""

import base64
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.crypto import KEY_BYTES, KeyRing, SealError, create_key_file, write_once

CONTEXT = "connections|org-1|row-1|password"
OLD, NEW = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES)


@given(st.binary(max_size=500), st.text(max_size=50))
def test_a_secret_comes_back(secret: bytes, context: str) -> None:
    ring = KeyRing(OLD)
    sealed = ring.seal(secret, context)
    assert ring.open(sealed, context) == secret
    assert len(secret) < 8 or secret not in sealed


def test_equal_secrets_are_sealed_differently() -> None:
    ring = KeyRing(OLD)
    assert len({ring.seal(b"same", CONTEXT) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "context", ["connections|org-1|row-2|password", "connections|org-2|row-1|password", CONTEXT + " ", ""]
)
def test_a_secret_that_is_moved_to_another_row_stays_closed(context: str) -> None:
    ring = KeyRing(OLD)
    with pytest.raises(SealError):
        ring.open(ring.seal(b"secret", CONTEXT), context)


def test_no_bit_can_be_changed() -> None:
    ring = KeyRing(OLD)
    sealed = ring.seal(b"secret", CONTEXT)
    for place in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(SealError):
            ring.open(bytes(changed), CONTEXT)


def test_nothing_can_be_cut_off_or_added() -> None:
    ring = KeyRing(OLD)
    sealed = ring.seal(b"secret", CONTEXT)
    for size in range(len(sealed)):
        with pytest.raises(SealError):
            ring.open(sealed[:size], CONTEXT)
    with pytest.raises(SealError):
        ring.open(sealed + b"\0", CONTEXT)


def test_parts_of_two_secrets_do_not_fit_together() -> None:
    ring = KeyRing(OLD)
    one, two = ring.seal(b"secret", CONTEXT), ring.seal(b"secret", CONTEXT)
    head = 2 + 8 + 12 + 48
    with pytest.raises(SealError):
        ring.open(one[:head] + two[head:], CONTEXT)


@given(st.binary(max_size=300))
def test_noise_stays_closed(noise: bytes) -> None:
    ring = KeyRing(OLD)
    with pytest.raises(SealError):
        ring.open(noise, CONTEXT)
    with pytest.raises(SealError):
        ring.open(ring.seal(b"", CONTEXT)[:10] + noise, CONTEXT)


def test_a_key_is_replaced_without_losing_what_it_sealed() -> None:
    before, between, after = KeyRing(OLD), KeyRing(NEW, OLD), KeyRing(NEW)
    old = before.seal(b"secret", CONTEXT)
    new = between.seal(between.open(old, CONTEXT), CONTEXT)
    assert after.open(new, CONTEXT) == b"secret"
    for ring, sealed in ((before, new), (after, old)):
        with pytest.raises(SealError, match="not in the ring"):
            ring.open(sealed, CONTEXT)


def test_a_ring_needs_a_key() -> None:
    with pytest.raises(ValueError, match="needs a key"):
        KeyRing()


class TestFiles:
    """Keys in files."""

    def test_a_key_file_is_its_owners_alone_and_stays(self, tmp_path: Path) -> None:
        folder = tmp_path / "keys"
        create_key_file(folder)
        (file,) = folder.iterdir()
        before = file.read_bytes()
        create_key_file(folder)
        assert file.read_bytes() == before
        assert len(base64.b64decode(before)) == KEY_BYTES
        assert (file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)

    def test_a_ring_is_loaded_with_the_newest_key_first(self, tmp_path: Path) -> None:
        lines = b"\n".join(base64.b64encode(key) for key in (NEW, OLD))
        (tmp_path / "secrets.keys").write_bytes(lines)
        ring = KeyRing.load(tmp_path)
        assert KeyRing(NEW).open(ring.seal(b"x", CONTEXT), CONTEXT) == b"x"
        assert ring.open(KeyRing(OLD).seal(b"y", CONTEXT), CONTEXT) == b"y"

    def test_one_of_many_writers_wins_and_nobody_reads_half(self, tmp_path: Path) -> None:
        path = tmp_path / "key"
        contents = [bytes([number]) * 100_000 for number in range(16)]

        def write(content: bytes) -> tuple[bool, bytes]:
            return write_once(path, content), path.read_bytes()

        with ThreadPoolExecutor(16) as pool:
            outcomes = list(pool.map(write, contents))
        assert [won for won, _ in outcomes].count(True) == 1
        assert {read for _, read in outcomes} == {path.read_bytes()}
        assert path.read_bytes() in contents
        assert list(tmp_path.iterdir()) == [path]
