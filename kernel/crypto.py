"""Secrets at rest: envelope encryption with AES-256-GCM, bound to where a secret belongs.

A sealed secret is `v1 | key id (8) | nonce (12) | wrapped data key (48) | nonce (12) | ciphertext and tag`.
The data key is new for each secret, so a random nonce is safe; the key that wraps it is named by its id, so
keys can be rotated by wrapping 32 bytes anew. The context is authenticated: a secret that is copied to
another row cannot be opened.
"""

import base64
import hashlib
import os
import secrets
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = b"v1"
KEY_BYTES, KEY_ID_BYTES, NONCE_BYTES, WRAPPED_BYTES = 32, 8, 12, 48
FILE = "secrets.keys"


class SealError(Exception):
    """A secret cannot be opened: it was changed, moved to another place, or its key is not in the ring."""


class KeyRing:
    """The keys that secrets are wrapped with; the first one wraps new secrets."""

    def __init__(self, *keys: bytes) -> None:
        if not keys:
            message = "a key ring needs a key"
            raise ValueError(message)
        self._current = _key_id(keys[0])
        self._keys = {_key_id(key): AESGCM(key) for key in keys}

    @classmethod
    def load(cls, directory: Path) -> Self:
        """The ring that the file in a folder holds: a key a line, in base64."""
        return cls(*(base64.b64decode(line) for line in (directory / FILE).read_text().split()))

    def seal(self, secret: bytes, context: str) -> bytes:
        """Encrypts a secret for one place; `context` names it, such as `service|organization|row|field`."""
        data_key = secrets.token_bytes(KEY_BYTES)
        head = VERSION + self._current
        bound = head + context.encode()
        wrap_nonce, nonce = secrets.token_bytes(NONCE_BYTES), secrets.token_bytes(NONCE_BYTES)
        wrapped = self._keys[self._current].encrypt(wrap_nonce, data_key, bound)
        return head + wrap_nonce + wrapped + nonce + AESGCM(data_key).encrypt(nonce, secret, bound)

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypts a secret, or raises SealError."""
        head, rest = sealed[: len(VERSION) + KEY_ID_BYTES], sealed[len(VERSION) + KEY_ID_BYTES :]
        wrap_nonce, rest = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        wrapped, rest = rest[:WRAPPED_BYTES], rest[WRAPPED_BYTES:]
        nonce, text = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        key = self._keys.get(head[len(VERSION) :]) if head.startswith(VERSION) else None
        if key is None:
            message = "sealed with a key that is not in the ring"
            raise SealError(message)
        bound = head + context.encode()
        try:
            return AESGCM(key.decrypt(wrap_nonce, wrapped, bound)).decrypt(nonce, text, bound)
        except (InvalidTag, ValueError) as error:
            message = "changed, or sealed for another place"
            raise SealError(message) from error


def create_key_file(directory: Path) -> None:
    """Writes a new key file into a folder, readable by its owner alone; an existing one stays."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_once(directory / FILE, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")


def write_once(path: Path, content: bytes) -> bool:
    """Creates a file, whole or not at all, readable by its owner alone; False when it exists already."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"portolan key id" + key).digest()[:KEY_ID_BYTES]
