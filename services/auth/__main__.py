"""`python -m services.auth`: settings → database → keys and enrolment code → servicer."""

from kernel import app, crypto
from kernel.logs import logger
from services.auth.domain import enrolment, keys
from services.auth.domain.passwords import Passwords
from services.auth.servicer import AuthServicer
from services.auth.settings import Settings
from services.auth.worker import KeyRotation

log = logger(__name__)


def compose(settings: Settings, environment: app.Environment) -> app.Parts:
    """The servicer, after what a first start needs is there."""
    with environment.database.transaction() as session:
        code = enrolment.prepare(session, environment.secrets)
        signer = keys.Signer(session, environment.secrets)
    settings.enrolment_file.unlink(missing_ok=True)
    if code is not None:
        crypto.write_once(settings.enrolment_file, f"{code}\n".encode())
        log.info(
            "no user yet: `portolan admin bootstrap` makes one", enrolment_file=str(settings.enrolment_file)
        )
    passwords = Passwords(
        time_cost=settings.password_time_cost,
        memory=settings.password_memory,
        checks=settings.password_checks,
        queue=settings.password_queue,
    )
    servicer = AuthServicer(
        environment.database,
        environment.changes,
        signer,
        passwords,
        settings.enrolment_file,
        settings.trusted_proxies,
    )
    rotation = KeyRotation(environment.database, environment.secrets, signer, settings.signing_key_lifetime)
    return app.Parts([servicer], [rotation.run])


def main() -> None:
    """Serves, migrates, or writes a migration."""
    settings = Settings()
    app.main("auth", settings, serve=lambda environment: compose(settings, environment))


if __name__ == "__main__":
    main()
