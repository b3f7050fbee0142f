"""What is special to the gateway's configuration."""

from pathlib import Path

from pydantic import Field, model_validator

from kernel.settings import Settings


class GatewaySettings(Settings):
    """The gateway's configuration; all times are in seconds."""

    gateway_address: str = "127.0.0.1:8080"
    """Where the gateway is reached, and serves unless `listen` says otherwise."""
    tls_certificate: Path | None = None
    """The certificate chain to serve HTTPS with, PEM; plain HTTP when not set."""
    tls_key: Path | None = None
    """The certificate's private key, PEM."""
    keys_refresh: int = Field(default=60, ge=1, le=1800)
    """How old the public keys that tokens are checked with may get; new ones are announced an hour ahead."""
    trusted_hops: int = Field(default=0, ge=0)
    """How many proxies in front append to `x-forwarded-for`, where a client's address is then taken from."""
    cors_origins: tuple[str, ...] = ()
    """The origins of front ends that browsers may call from, such as `https://portolan.example`."""
    unary_timeout: int = Field(default=30, ge=1)
    """How long a call that does not stream may take."""
    idle_timeout: int = Field(default=60, ge=1)
    """How long a stream may be silent; the services send something every 15 seconds."""
    drain_timeout: int = Field(default=10, ge=0)
    """How long calls under way may go on when the gateway stops."""
    max_body: int = Field(default=4 * 1024 * 1024, ge=64 * 1024)
    """The largest JSON body, in bytes; files are streamed and limited by the service that takes them."""
    sign_ins_per_minute: int = Field(default=30, ge=1)
    """How often a client address may call each public RPC that changes something, such as Login."""
    envoy_threads: int = Field(default=2, ge=1)
    """Threads that serve."""

    @model_validator(mode="after")
    def _certificate_has_key(self) -> "GatewaySettings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        return self

    @property
    def endpoint(self) -> tuple[str, int]:
        """The host and port to serve at."""
        host, _, port = (self.listen or self.gateway_address).rpartition(":")
        return host.strip("[]"), int(port)
