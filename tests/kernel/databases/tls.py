"""Encryption in front of a PostgreSQL that has none, as the one that the tests have was built without."""

import asyncio
import datetime as dt
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SSL_REQUEST_BYTES = 8
"""The length of what libpq sends first, to ask whether the server encrypts."""


class Authority:
    """A certificate authority of a company's own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        own = self._built(self._name, self._key.public_key())
        certificate = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.file = folder / "authority.pem"
        """Its certificate, for those who trust it."""
        self.file.write_bytes(
            certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )

    def context(self, host: str) -> ssl.SSLContext:
        """What a server of that name shows."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server")])
        built = self._built(subject, key.public_key())
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        certificate = built.add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        chain = self._folder / "server.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        return context

    def _built(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )


@contextmanager
def encrypting(context: ssl.SSLContext, host: str, port: int) -> Iterator[int]:
    """Encrypts in front of a PostgreSQL server, and gives the port to connect to."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            await reader.readexactly(SSL_REQUEST_BYTES)
            writer.write(b"S")
            await writer.start_tls(context)
            behind_reader, behind_writer = await asyncio.open_connection(host, port)
            with closing(behind_writer):
                ways = (_pass_on(reader, behind_writer), _pass_on(behind_reader, writer))
                await asyncio.wait([*map(asyncio.ensure_future, ways)], return_when=asyncio.FIRST_COMPLETED)

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(meet, host, 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        if left := asyncio.all_tasks(loop):
            loop.run_until_complete(asyncio.wait(left, timeout=5))
        loop.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Moves what comes, until one of both ends."""
    with suppress(ConnectionError):
        while piece := await reader.read(2**16):
            writer.write(piece)
            await writer.drain()
