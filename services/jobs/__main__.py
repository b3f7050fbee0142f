"""The process of the jobs service, `serve`, or of one of its workers, `worker`."""

from kernel import app
from services.jobs.clients import Clients
from services.jobs.servicers.jobs import JobServicer
from services.jobs.servicers.runs import RunServicer
from services.jobs.servicers.tails import Tails
from services.jobs.settings import Settings
from services.jobs.workers.worker import Worker


def serve(settings: Settings, environment: app.Environment) -> app.Parts:
    """The servicers of jobs and runs."""
    clients = Clients(settings, environment.identity)
    tails = Tails(environment.database, environment.changes)
    servicers = (JobServicer(environment.database, clients), RunServicer(environment.database, tails))
    return app.Parts(servicers, [tails.watch])


def worker(settings: Settings, environment: app.Environment) -> app.Parts:
    """What works on runs."""
    clients = Clients(settings, environment.identity)
    return app.Parts(loops=[Worker(environment.database, environment.changes, clients, settings).run])


if __name__ == "__main__":
    settings = Settings()
    app.main(
        "jobs",
        settings,
        serve=lambda environment: serve(settings, environment),
        worker=lambda environment: worker(settings, environment),
    )
