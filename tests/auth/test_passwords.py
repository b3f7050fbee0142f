"""Which passwords are good enough."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth.domain.passwords import Passwords, check_strength
from services.auth.errors import PasswordWeakError

CHEAP = Passwords(time_cost=1, memory=8, checks=1, queue=0)


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "fourteen chars",
        "aaaaaaaaaaaaaaaa",
        "abababababababab",
        "passwordpassword",
        "Password12345678",
        "PORTOLAN-portolan",
        "correct horse battery staple",
        "qwertyuiopasdfgh",
        "ada.lovelace.1815",
        "lovelacelovelace1",
        "example-example-ada",
        "administrator2026!",
    ],
)
def test_a_guessable_password_is_refused(password: str) -> None:
    with pytest.raises(PasswordWeakError) as refused:
        check_strength(password, "ada.lovelace", "lovelace@example.org")
    assert password not in refused.value.message


@pytest.mark.parametrize(
    "password",
    [
        "the tide turns at nine",
        "portolan is drawn on vellum",
        "x7#kQ9!vLm2@Zp4w",
        "пять рыжих котов спят",
        "🐙🐳🦑🐠🦀" * 3,
    ],
)
def test_a_password_of_ones_own_is_taken(password: str) -> None:
    check_strength(password, "ada.lovelace", "lovelace@example.org")


@given(st.text(max_size=128), st.text(max_size=128))
def test_a_hash_matches_its_password_alone(password: str, other: str) -> None:
    password_hash = CHEAP.hash(password)
    assert CHEAP.match(password_hash, password) == password_hash
    assert CHEAP.match(password_hash, other) == (password_hash if password == other else None)


def test_nobodys_password_never_matches() -> None:
    assert CHEAP.match(None, "") is None
    assert CHEAP.match("not a hash", "") is None


def test_a_match_renews_a_hash_of_other_parameters() -> None:
    dearer = Passwords(time_cost=2, memory=16, checks=1, queue=0)
    renewed = dearer.match(CHEAP.hash("the same"), "the same")
    assert renewed is not None
    assert "m=16,t=2,p=1" in renewed
    assert dearer.match(renewed, "the same") == renewed
