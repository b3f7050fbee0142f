"""What is special to this service's configuration."""

import datetime as dt
import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from pydantic import Field

from kernel.settings import Settings as SharedSettings


class Settings(SharedSettings):
    """The shared settings, and what password checks may cost."""

    password_time_cost: int = Field(default=3, ge=1)
    """Passes of Argon2id over its memory."""
    password_memory: int = Field(default=65536, ge=8)
    """Memory of one password check in KiB. Small machines take 19456 and 2 passes, the least that is safe."""
    password_checks: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Password checks that run at once, each with its memory; by default the number of cores."""
    password_queue: int = Field(default=8, ge=0)
    """Password checks that wait for those, each in a thread of `workers`; more are refused at once."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = (
        IPv4Network("127.0.0.0/8"),
        IPv6Network("::1/128"),
    )
    """The networks of gateways: their `x-forwarded-for` is believed where failed sign-ins are counted."""

    signing_key_days: int = Field(default=30, ge=1)
    """For how long a key signs access tokens before the next one takes its turn."""

    @property
    def signing_key_lifetime(self) -> dt.timedelta:
        """For how long a key signs."""
        return dt.timedelta(days=self.signing_key_days)

    @property
    def enrolment_file(self) -> Path:
        """The file that the first start writes the enrolment code to."""
        return self.data_dir / "enrolment-code"
