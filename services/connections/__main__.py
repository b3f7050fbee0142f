"""`python -m services.connections`: settings → what may be reached → the services that it asks → servicer."""

from kernel import app, clients
from kernel.databases.hosts import HostPolicy
from services.connections.clients import Clients
from services.connections.domain.access import Policy
from services.connections.servicers.connections import ConnectionServicer
from services.connections.settings import Settings


def compose(settings: Settings, environment: app.Environment) -> app.Parts:
    """The servicer."""
    hosts = HostPolicy(
        allow_loopback=settings.allow_loopback, allow_private_networks=settings.allow_private_networks
    )
    others = Clients(clients.channel(settings.mapper_address), clients.channel(settings.jobs_address))
    servicer = ConnectionServicer(
        environment.database,
        environment.secrets,
        Policy(hosts, settings.folders, settings.own, str(settings.ca_file or "")),
        others,
        query_seconds=settings.query_seconds,
        looks=max(1, settings.workers // 2),
    )
    return app.Parts([servicer])


def main() -> None:
    """Serves, migrates, or writes a migration."""
    settings = Settings()
    app.main("connections", settings, serve=lambda environment: compose(settings, environment))


if __name__ == "__main__":
    main()
