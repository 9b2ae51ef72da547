"""Ed25519 signatures over canonical bytes. A prefix keeps one use of a key from passing for another."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from coordinator.model import Draft
from coordinator.statements import Statement, canonical

STATEMENT = b"consortium statement v1\n"
RECORD = b"consortium audit record v2\n"
HEAD = b"consortium audit head v1\n"
WITNESS = b"consortium audit counter-signature v1\n"


class SigningError(Exception):
    """A key cannot be used or a signature is not the party's; the message names the party or the file."""


class Signer:
    """This party's signing key."""

    def __init__(self, consortium: str, party: str, key: Ed25519PrivateKey) -> None:
        self.consortium, self.party, self._key = consortium, party, key

    @classmethod
    def load(cls, consortium: str, party: str, path: Path) -> Signer:
        """Read a PEM PKCS8 ed25519 key. Raises SigningError naming the file."""
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError) as e:
            raise SigningError(f"{path}: cannot be read as an unencrypted PEM private key: {e}") from e
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningError(f"{path}: is a {type(key).__name__}, an ed25519 key is needed")
        return cls(consortium, party, key)

    @property
    def public(self) -> str:
        """Base64 of the raw public key."""
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.b64encode(raw).decode()

    def raw(self, use: bytes, content: bytes) -> str:
        """Base64 signature of `content` for one use (STATEMENT, RECORD, HEAD, WITNESS)."""
        return base64.b64encode(self._key.sign(use + content)).decode()

    def statement(self, job_id: str, draft: Draft) -> Statement:
        """Sign a draft as this party."""
        unsigned = Statement(
            kind=draft.kind, job_id=job_id, attempt=draft.attempt, party=self.party, body=draft.body, signature=""
        )
        return unsigned.model_copy(update={"signature": self.raw(STATEMENT, self._content(unsigned))})

    def _content(self, statement: Statement) -> bytes:
        return self.consortium.encode() + b"\n" + canonical(statement.payload())


class Verifier:
    """The public keys of all parties, this one included."""

    def __init__(self, consortium: str, keys: Mapping[str, str]) -> None:
        self.consortium = consortium
        self.keys = dict(keys)
        self._keys = {party: public_key(key, party) for party, key in keys.items()}

    def check(self, statement: Statement) -> None:
        """Raise SigningError unless the statement bears its author's signature."""
        content = self.consortium.encode() + b"\n" + canonical(statement.payload())
        where = f"{statement.kind} of {statement.party} for {statement.job_id}"
        self.raw(statement.party, STATEMENT, content, statement.signature, where)

    def raw(self, party: str, use: bytes, content: bytes, signature: str, where: str) -> None:
        """Raise SigningError unless `signature` is the party's over the content for that use.

        Base64 has spellings that mean the same bytes; only the one that `Signer.raw` writes is taken.
        """
        key = self._keys.get(party)
        if key is None:
            raise SigningError(f"{where}: {party!r} is not a member; members are {sorted(self._keys)}")
        try:
            raw = base64.b64decode(signature, validate=True)
            key.verify(raw if base64.b64encode(raw).decode() == signature else b"", use + content)
        except (InvalidSignature, binascii.Error, ValueError) as e:
            raise SigningError(f"{where}: the signature is not {party}'s") from e


def public_key(text: str, party: str) -> Ed25519PublicKey:
    """Read base64 of a raw ed25519 public key. Raises SigningError naming the party."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error) as e:
        raise SigningError(f"signing_key of {party}: {text[:60]!r} is not base64 of 32 bytes: {e}") from e
