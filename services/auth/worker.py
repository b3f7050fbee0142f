"""What the service does beside its calls: its signing keys take turns."""

import asyncio
import datetime as dt

from sqlalchemy.exc import SQLAlchemyError

from kernel.crypto import KeyRing
from kernel.db import Database, now
from kernel.logs import logger
from services.auth.domain import keys

log = logger(__name__)

LOOK_SECONDS = 60


class KeyRotation:
    """Makes new signing keys, of which each signs for `lifetime`, and lets the signer follow."""

    def __init__(
        self, database: Database, secrets: KeyRing, signer: keys.Signer, lifetime: dt.timedelta
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._signer = signer
        self._lifetime = lifetime

    async def run(self) -> None:
        """Looks every minute, for ever."""
        while True:
            try:
                await asyncio.to_thread(self.look, now())
            except SQLAlchemyError as error:
                log.warning("the database does not answer", error=type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    def look(self, moment: dt.datetime) -> None:
        """What is due at a moment."""
        with self._database.transaction() as session:
            keys.rotate(session, self._secrets, self._lifetime, moment)
        with self._database.read() as session:
            self._signer.renew(session, moment)
