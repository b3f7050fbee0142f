"""Certificates for a host that is this one."""

import datetime as dt
import ipaddress
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def write_certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Writes a self-signed certificate and its key, over those that are there."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths = directory / "tls.crt", directory / "tls.key"
    for path, content in zip(
        paths, (certificate.public_bytes(serialization.Encoding.PEM), private), strict=True
    ):
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.replace(path)
    return paths


def served_name(host: str, port: int) -> tuple[str, str | None]:
    """The name in the certificate that a server shows, and the protocol that it chooses."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection((host, port), 5) as plain, context.wrap_socket(plain) as connection:
        shown = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
        (name,) = shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(name.value), connection.selected_alpn_protocol()
