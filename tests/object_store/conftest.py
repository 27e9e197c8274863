"""The servers of ``servers``, started once, and a bucket for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from object_store.servers import S3, environment, running


@pytest.fixture(scope="session")
def servers() -> Iterator[tuple[str, str]]:
    with running() as found:
        if found is None:
            pytest.skip("moto is not installed: make .venv/ready, which puts it into .venv/moto")
        yield found


@pytest.fixture
def s3(servers: tuple[str, str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """The bucket ``BUCKET`` through the proxy, without faults, and a folder of it for this test alone."""
    pytest.importorskip("obstore")
    direct, proxy = servers
    for name, value in environment(proxy).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("harmonize.store.object_path._clients", {})  # those of other tests may try otherwise
    s3 = S3(direct, proxy, request.node.name.partition("[")[0])
    s3.faults()
    yield s3
    s3.faults()
