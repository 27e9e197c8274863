"""An S3 server (moto's) and a proxy before it that makes faults, each a process on loopback; for tests and benchmarks."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

SECRET = "wJalrXUtnFEMI-not-to-be-seen"
BUCKET = "bucket"
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=K/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
    "Content-Type": "application/octet-stream",
}
"""moto asks for a signature and does not check it."""
NAMESPACE = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}


@dataclass
class S3:
    """``direct`` is the server's own address, ``proxy`` the one that clients are given."""

    direct: str
    proxy: str
    folder: str = ""

    def url(self, name: str = "corpus.zarr") -> str:
        return f"s3://{BUCKET}/{self.folder}/{name}"

    def faults(self, **plan: float | str) -> None:
        """What the proxy does from now on, and forgets what it did."""
        _ask(f"{self.proxy}/__faults", "POST", json.dumps(plan).encode())

    def asked(self) -> list[dict[str, Any]]:
        """The requests since, each with its fate."""
        answer: list[dict[str, Any]] = json.loads(_ask(f"{self.proxy}/__faults"))
        return answer

    def fates(self) -> Counter[str]:
        return Counter(one["fate"] for one in self.asked())

    def names(self, prefix: str = "") -> list[str]:
        """Keys below this test's folder, from the server itself."""
        keys, more = [], ""
        while True:
            query = f"{self.direct}/{BUCKET}?list-type=2&prefix={quote(f'{self.folder}/{prefix}', safe='')}{more}"
            tree = ET.fromstring(_ask(query))
            keys += [one.text or "" for one in tree.iterfind("s3:Contents/s3:Key", NAMESPACE)]
            token = tree.findtext("s3:NextContinuationToken", None, NAMESPACE)
            if token is None:
                return [key.removeprefix(f"{self.folder}/") for key in keys]
            more = f"&continuation-token={quote(token, safe='')}"

    def get(self, name: str) -> bytes:
        return _ask(f"{self.direct}/{BUCKET}/{self.folder}/{quote(name)}")

    def put(self, name: str, data: bytes) -> None:
        _ask(f"{self.direct}/{BUCKET}/{self.folder}/{quote(name)}", "PUT", data)

    def delete(self, name: str) -> None:
        _ask(f"{self.direct}/{BUCKET}/{self.folder}/{quote(name)}", "DELETE")

    def upload(self, folder: Path, name: str = "corpus.zarr") -> str:
        """The files of a store in a folder as objects, by plain HTTP; returns its URL."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.put(f"{name}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return self.url(name)

    def download(self, name: str, folder: Path) -> Path:
        """A store as files of this machine, by plain HTTP."""
        for key in self.names(f"{name}/"):
            file = folder / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.get(key))
        return folder / name


def _ask(url: str, method: str = "GET", data: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data, SIGNED, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def _moto_server() -> str | None:
    own = Path(sys.prefix) / "moto" / "bin" / "moto_server"
    return str(own) if own.exists() else shutil.which("moto_server")


def environment(endpoint: str) -> dict[str, str]:
    """What a client takes from the environment."""
    return {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET,
    }  # fmt: skip


@contextmanager
def running() -> Iterator[tuple[str, str] | None]:
    """Addresses of server and proxy; None where moto is not installed."""
    program = _moto_server()
    if program is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    moto = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], **quiet)
    script = Path(__file__).with_name("proxy.py")
    proxy = subprocess.Popen([sys.executable, str(script), str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert proxy.stdout is not None
        direct, through = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{int(proxy.stdout.readline())}"
        for _ in range(300):
            try:
                _ask(f"{direct}/{BUCKET}", "PUT")
                break
            except OSError:
                time.sleep(0.1)
        yield direct, through
    finally:
        for process in (moto, proxy):
            process.kill()
            process.wait()
        assert proxy.stdout is not None
        proxy.stdout.close()
