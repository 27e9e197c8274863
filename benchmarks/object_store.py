"""``python -m benchmarks.object_store``: a stream from an S3 server that answers 20 ms late, beside plain downloads.

Server (moto) and the proxy that makes it late are the tests' own (``tests/object_store/servers.py``), two Python
processes that share this machine's cores with the stream. The reference asks for the same objects one after the other,
whole, through the same proxy, and does nothing with them; once more in pieces, since moto copies a whole object for
each range of it, as no object store in use does. The store fits into the stream's memory, so that its first batches ask
for each shard once; of a larger one a block (``WindowStream.order``) is a request. Bytes are those stored.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import obstore
from obstore.store import S3Store

from benchmarks.synthetic import eeg_store
from benchmarks.timing import alternating_s, one_thread, row
from harmonize.data import WindowStream
from harmonize.store.place import place_of

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from object_store.servers import BUCKET, S3, environment, running

ROUNDS, RECORDINGS, SECONDS, WINDOW_S, LATE_S = 3, 20, 1200, 10, 0.02
"""246 MB of samples: four shards."""
PIECE = 8 * 2**20
"""About two blocks."""


def rows() -> list[str]:
    """Table rows."""
    one_thread()
    with running() as servers, tempfile.TemporaryDirectory() as folder:
        if servers is None:
            return ["| streaming from S3 | not run: no moto (`make .venv/ready`) | | | |"]
        os.environ.update(environment(servers[1]))
        s3 = S3(*servers, "bench")
        rows = []
        for codec, name in (("none", "uncompressed"), ("lz4", "default codec")):
            root, _ = eeg_store(Path(folder) / codec, codec, RECORDINGS, SECONDS)
            url = s3.upload(root, codec)
            shards = [file.relative_to(root).as_posix() for file in root.glob("signals/*/*/samples/c/*/*")]
            size = sum((root / shard).stat().st_size for shard in shards)
            plain = S3Store(BUCKET, prefix=f"{s3.folder}/{codec}")
            stream = WindowStream(place_of(url), WINDOW_S, 64, threads=2, prefetch=8)
            s3.faults(slow=1.0, delay_s=LATE_S)

            def download(plain: S3Store = plain, shards: list[str] = shards, size: int = size) -> None:
                if sum(len(obstore.get(plain, shard).bytes()) for shard in shards) != size:
                    raise RuntimeError("not all of the store was downloaded")

            def in_pieces(plain: S3Store = plain, shards: list[str] = shards, size: int = size) -> None:
                got = 0
                for shard in shards:
                    end = obstore.head(plain, shard)["size"]
                    for start in range(0, end, PIECE):
                        got += len(obstore.get_range(plain, shard, start=start, end=min(start + PIECE, end)))
                if got != size:
                    raise RuntimeError("not all of the store was downloaded")

            def drain(stream: WindowStream = stream) -> None:
                if sum(len(batch["recording_id"]) for batch in stream) != len(stream.data):
                    raise RuntimeError("not all windows came")

            found = alternating_s({"stream": drain, "plain": download, "pieces": in_pieces}, ROUNDS)
            s3.faults()
            what = f"`WindowStream` from S3, {1000 * LATE_S:.0f} ms late, {name}, 2 threads"
            for reference, key in (("shards one by one", "plain"), (f"shards in pieces of {PIECE >> 20} MB", "pieces")):
                rows.append(row(what, size / 1e6, found["stream"], f"downloading its {reference}", found[key], "MB"))
        return rows


if __name__ == "__main__":
    print("\n".join(rows()))
