"""Pseudonyms under a project key that lives outside the store (DESIGN 8)."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

KEY_BYTES = 32
KEY_ENV = "HARMONIZE_KEY_FILE"


class KeyFileError(Exception):
    """The project key cannot be used; the message says what to do."""


@dataclass(frozen=True)
class ProjectKey:
    """The secret that pseudonyms are made under. Never stored, logged or shown; only ``key_id`` is."""

    secret: bytes

    def __repr__(self) -> str:
        return f"<ProjectKey {self.key_id}>"

    @property
    def key_id(self) -> str:
        """Names the key without revealing it."""
        return self.digest("key-id", length=8)

    def digest(self, *parts: str, length: int = 16) -> str:
        """HMAC-SHA256 of the parts, as ``length`` hex digits (16 = 64 bits)."""
        message = "\0".join(parts).encode("utf-8", "surrogateescape")
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()[:length]


def default_key_path() -> Path:
    """``$HARMONIZE_KEY_FILE``, else ``harmonize/project.key`` in the user's configuration folder."""
    if given := os.environ.get(KEY_ENV):
        return Path(given)
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "harmonize" / "project.key"


def load_key(path: Path | None = None) -> ProjectKey:
    """Read the project key; the default one is made on first use, readable by its owner only.

    Raises ``KeyFileError`` for a key that was named but is not there, is not a key, or that others can read.
    """
    file = path or default_key_path()
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        if path is not None:
            raise KeyFileError(f"there is no key file {path}") from None
        return _create_key(file)
    if mode & 0o077:
        raise KeyFileError(f"others can read the key file {file}; run: chmod 600 {file}")
    try:
        secret = bytes.fromhex(file.read_text("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        raise KeyFileError(f"{file} is not a project key ({KEY_BYTES} bytes in hex)")
    return ProjectKey(secret)


def peek_key(path: Path | None = None) -> ProjectKey:
    """The project key, without making one: where there is none yet, one for this process alone. For what writes
    nothing. Raises as ``load_key``."""
    if path is None and not default_key_path().exists():
        return ProjectKey(secrets.token_bytes(KEY_BYTES))
    return load_key(path)


def _create_key(file: Path) -> ProjectKey:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = secrets.token_bytes(KEY_BYTES)
    # Written under another name and linked, so that two runs that start at once agree on one key.
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(secret.hex() + "\n")
    try:
        os.link(draft, file)
    except FileExistsError:
        return load_key(file)
    finally:
        draft.unlink()
    return ProjectKey(secret)
