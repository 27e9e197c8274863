"""``python -m benchmarks.sizes``: how large recordings are in the store beside their native samples, by kind and codec.

Converts the folders of ``shared/data``. ``harmonize scan`` gives its range of expected sizes from this table
(``harmonize.ingest.outlook.SHARES``).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl

import harmonize as hz
from harmonize.ingest import ProjectKey
from harmonize.store.shards import Codec
from harmonize.store.sizes import layout_sizes

DATA = Path(__file__).parents[2] / "shared" / "data"
KEY = ProjectKey(b"benchmark" * 4)
CODECS: tuple[Codec, ...] = ("lz4", "zstd", "none")


def rows() -> list[str]:
    """The table: for each folder and kind of data, bytes in the store of a native byte."""
    found = []
    for folder in sorted(path for path in DATA.iterdir() if path.is_dir()):
        for codec in CODECS:
            with tempfile.TemporaryDirectory() as into:
                store = hz.open(hz.convert(folder, Path(into) / "s.zarr", key=KEY, codec=codec).store)
                for layout, (native, stored) in layout_sizes(store).items():
                    kind = layout.partition("-")[0]
                    found.append({"folder": folder.name, "kind": kind, "codec": codec, "MB": native / 1e6,
                                  "stored": stored / 1e6})  # fmt: skip
    frame = pl.DataFrame(found).group_by("folder", "kind", "codec").sum()
    frame = frame.filter(pl.col("MB") > 0.1).with_columns(share=pl.col("stored") / pl.col("MB"))
    frame = frame.pivot("codec", index=["folder", "kind", "MB"], values="share").sort("kind", "folder")
    head = ["| folder | kind | native samples | lz4 | zstd | none |", "|---|---|---|---|---|---|"]
    lines = [
        f"| {row['folder']} | {row['kind']} | {row['MB']:.1f} MB | "
        + " | ".join(f"{row[codec]:.2f}" for codec in CODECS)
        + " |"
        for row in frame.iter_rows(named=True)
    ]
    return head + lines


if __name__ == "__main__":
    print("\n".join(rows()))
