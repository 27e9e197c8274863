"""Paths below a URL of an object store (``s3://``, ``gs://``, ``az://``), through obstore (extra ``[s3]``).

A path holds its URL and nothing else: credentials and endpoint are those of the environment of the process that
uses it (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AWS_ALLOW_HTTP ...), so that no pickle, log or store has them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from deltalake.exceptions import DeltaError
from polars.exceptions import PolarsError

from harmonize.store.errors import StoreError, UnreachableError

SCHEMES = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}
"""Schemes of URLs, with the class of ``obstore.store`` that serves each."""
MAX_RETRIES = 10
RETRY_S = 180.0
"""An answer 5xx and a lost connection are tried again, with growing pauses, so often and so long."""
BACKOFF = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=15), "base": 2}
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9]*)://(?P<bucket>[^/?#]*)(?P<key>[^?#]*)(?P<rest>.*)", re.DOTALL)

_clients: dict[tuple[str, str], Any] = {}
_opened_in: int | None = None


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object or a folder of objects: what a store needs of ``pathlib.Path``, under the same names.

    Raises, in all methods, ``UnreachableError`` where the store does not answer or refuses.
    """

    scheme: str
    bucket: str
    key: str

    def __truediv__(self, below: str) -> ObjectPath:
        return ObjectPath(self.scheme, self.bucket, f"{self.key}/{below}".lstrip("/"))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.key).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.bucket, *PurePosixPath(self.key).parts)

    @property
    def parent(self) -> ObjectPath:
        return ObjectPath(self.scheme, self.bucket, self.key.rpartition("/")[0])

    def resolve(self) -> ObjectPath:
        return self

    def exists(self) -> bool:
        """Whether it is an object, or a folder with objects."""
        obstore = _obstore()
        with answers(self):
            try:
                obstore.head(client(self), self.key)
            except FileNotFoundError:
                return any(obstore.list(client(self), self.key, chunk_size=1))
            return True

    def read_bytes(self) -> bytes:
        """All of an object. Raises ``FileNotFoundError``."""
        obstore = _obstore()
        with answers(self):
            return bytes(obstore.get(client(self), self.key).bytes())

    def write_bytes(self, data: bytes | Path) -> None:
        """Put an object (or a file, in several pieces where it is large), whole or not at all."""
        obstore = _obstore()
        with answers(self):
            obstore.put(client(self), self.key, data)

    def create(self, data: bytes) -> Any:
        """Put an object that must not be there yet, decided by the store; returns its state, for ``replace``. Raises
        ``FileExistsError``, but not where the same ``data`` are there: give each writer its own."""
        return self._put_if(data, "create")

    def replace(self, data: bytes, state: Any) -> Any:
        """Put an object in place of one that must be in this ``state``; returns its new state. Raises
        ``FileExistsError`` where it is in another."""
        return self._put_if(data, {name: state[name] for name in ("e_tag", "version") if state[name] is not None})

    def state(self) -> Any:
        """What tells whether an object was replaced. Raises ``FileNotFoundError``."""
        obstore = _obstore()
        with answers(self):
            return obstore.head(client(self), self.key)

    def _put_if(self, data: bytes, mode: Any) -> Any:
        obstore = _obstore()
        refusals = (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError)
        with answers(self):
            try:
                return obstore.put(client(self), self.key, data, mode=mode)
            except refusals:
                found = obstore.get(client(self), self.key)
                # It may be what we put: where an answer is lost, the client asks again.
                if bytes(found.bytes()) == data:
                    return found.meta
                raise FileExistsError(str(self)) from None

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete an object; one that is not there is no error, as most stores do not tell."""
        obstore = _obstore()
        with answers(self):
            try:
                obstore.delete(client(self), self.key)
            except FileNotFoundError:
                if not missing_ok:
                    raise


def parse(url: str) -> ObjectPath:
    """Raises ``StoreError`` for a URL that is none of an object store, or holds more than a place."""
    found = _URL.fullmatch(url)
    if found is None or found["scheme"] not in SCHEMES:
        kind = found["scheme"] if found else url.partition(":")[0]
        raise StoreError(f"a store is a folder or a URL that begins with s3://, gs:// or az://, not with {kind}:")
    if "@" in found["bucket"] or found["rest"]:
        raise StoreError("a URL of a store is scheme://bucket/path; credentials and options go into the environment")
    key = found["key"].strip("/")
    if not found["bucket"] or not key or "//" in key or {".", ".."}.intersection(key.split("/")):
        raise StoreError(f"a URL of a store is {found['scheme']}://bucket/path, with both a bucket and a path")
    return ObjectPath(found["scheme"], found["bucket"], key)


def _obstore() -> Any:
    try:
        import obstore.exceptions
        import obstore.store
    except ModuleNotFoundError:
        raise StoreError("stores in buckets need obstore: pip install 'harmonize-biomed[s3]'") from None
    return obstore


def client(path: ObjectPath) -> Any:
    """The obstore client of a bucket, one in each process.

    Raises ``StoreError`` without obstore, and in a process that was forked after its parent had a client: the
    threads of the client's runtime are not forked with it, so that it would wait for ever.
    """
    global _opened_in
    if _opened_in not in (None, os.getpid()):
        raise StoreError(
            f"{path.scheme}:// cannot be read in a process forked from one that read it: start workers with "
            'DataLoader(..., multiprocessing_context="spawn")'
        )
    found = _clients.get((path.scheme, path.bucket))
    if found is None:
        _opened_in = os.getpid()
        found = _clients[path.scheme, path.bucket] = _new_client(path.scheme, path.bucket)
    return found


def _new_client(scheme: str, bucket: str) -> Any:
    store = _obstore().store
    retry = {"max_retries": MAX_RETRIES, "retry_timeout": timedelta(seconds=RETRY_S), "backoff": BACKOFF}
    try:
        return getattr(store, SCHEMES[scheme])(bucket, retry_config=retry)
    except Exception as error:  # noqa: BLE001 - a library's words may quote the configuration
        raise StoreError(
            f"the environment does not say how to reach {scheme}://{bucket} ({type(error).__name__})"
        ) from None


def delta_options(path: ObjectPath) -> dict[str, str]:
    """What deltalake is told beside its environment: how to retry, and that a commit is a conditional
    put, so that of two writers of one version the store refuses the second."""
    options = {"max_retries": str(MAX_RETRIES), "retry_timeout": f"{RETRY_S:g}s"}
    return options | ({"aws_conditional_put": "etag"} if path.scheme == "s3" else {})


@contextmanager
def answers(place: object) -> Iterator[None]:
    """What clients of an object store raise, as ``UnreachableError`` in words of ours: theirs quote requests and
    answers. What is no error of the store passes, and for a local folder everything does."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except Exception as error:
        # deltalake breaks its lines, with arrows and colours between.
        text = " ".join(re.sub(r"\x1b\[[0-9;]*m|↳", " ", f"{type(error).__name__} {error}").split())
        if not isinstance(place, ObjectPath) or not _is_of_client(error, text):
            raise
        raise UnreachableError(_said(place, text)) from None


def _is_of_client(error: Exception, text: str) -> bool:
    if type(error).__module__.startswith("obstore") or isinstance(error, OSError):
        return True
    return isinstance(error, DeltaError | PolarsError) and "Error performing" in text


def _said(path: ObjectPath, text: str) -> str:
    bucket = f"{path.scheme}://{path.bucket}"
    status = re.search(r"status code:? (\d{3})", text)
    code = status[1] if status else None
    if "NoSuchBucket" in text or "ContainerNotFound" in text:
        return f"there is no bucket {bucket}"
    if "169.254.169.254" in text or "metadata.google.internal" in text:
        return f"the environment has no credentials for {bucket}; see docs/object_stores.md for the variables"
    if code in ("401", "403") or "PermissionDenied" in text or "Unauthenticated" in text:
        return f"{bucket} refuses what was asked with the credentials of the environment"
    if "builder error" in text:
        return f"the endpoint of {bucket} cannot be used; for a http:// one set AWS_ALLOW_HTTP=true"
    what = f"status {code}" if code else "no connection"
    return f"{bucket} does not answer as it should ({what}), also when asked again"
