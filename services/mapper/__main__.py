"""`python -m services.mapper`: settings → the services that it calls → servicer."""

from kernel import app, clients
from kernel.settings import Settings
from services.mapper.clients import Clients
from services.mapper.servicers.mappings import MappingServicer


def compose(settings: Settings, environment: app.Environment) -> app.Parts:
    """The servicer."""
    connections = clients.channel(settings.connections_address)
    jobs = clients.channel(settings.jobs_address)
    return app.Parts([MappingServicer(environment.database, Clients(connections, jobs))])


def main() -> None:
    """Serves, migrates, or writes a migration."""
    settings = Settings()
    app.main("mapper", settings, serve=lambda environment: compose(settings, environment))


if __name__ == "__main__":
    main()
