"""Exact duplicates: recordings whose native samples or voxels have the same SHA-256."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from harmonize.data.reader import ArrayReader
from harmonize.store import Store
from harmonize.store.catalog import Row

SILENT_TYPES = ("trigger",)
"""Channel types that are equal in different people by design (the same protocol) and are no evidence."""
LEAST_SAMPLES = 100
"""Fewer may be equal by chance, such as 30 s of oxygen saturation at 1 Hz."""
READ_SAMPLES = 1 << 16

PAIRS = {"recording_a": pl.String, "recording_b": pl.String, "channels": pl.Int64, "overlap_s": pl.Float64}


def exact_pairs(store: Store) -> pl.DataFrame:
    """Pairs (recording_a < recording_b, channels, overlap_s) of recordings with the same data.

    Signals: all channels with evidence of the stream that has fewer are among the other stream's, whatever
    their names and order. Constant and trigger channels and streams below ``LEAST_SAMPLES`` are no evidence, and a
    stream without any other pairs with nothing. Images: the same voxels, not constant, in the same shape and dtype;
    ``channels`` and ``overlap_s`` are then None.
    """
    signals, images = _signal_pairs(store), _image_pairs(store)
    both = pl.concat(
        [frame.select(pl.col(name).cast(kind) for name, kind in PAIRS.items()) for frame in (signals, images)]
    )
    longest = both.sort("overlap_s", "channels", descending=True, nulls_last=True)
    pair = ["recording_a", "recording_b"]
    return longest.unique(pair, keep="first", maintain_order=True).sort(pair)


def _signal_pairs(store: Store) -> pl.DataFrame:
    ends = ["recording_id", "stream"]
    channels = _channels(store)
    several = channels.filter(pl.col("recording_id").n_unique().over("content") > 1)
    channels = channels.join(several, on=ends, how="semi")
    constant = [place["content"] for place in _places(channels) if _is_constant(store, place)]
    channels = channels.filter(~pl.col("content").is_in(constant)).unique([*ends, "content"])
    size = channels.group_by(ends).agg(size=pl.len())
    matched = channels.join(channels, on="content", suffix="_b")
    matched = matched.filter(pl.col("recording_id") < pl.col("recording_id_b"))
    matched = matched.group_by(*ends, "recording_id_b", "stream_b").agg(
        channels=pl.len(), overlap_s=pl.col("seconds").first()
    )
    matched = matched.join(size, on=ends)
    matched = matched.join(size.rename(lambda name: f"{name}_b"), on=["recording_id_b", "stream_b"])
    whole = matched.filter(pl.col("channels") == pl.min_horizontal("size", "size_b"))
    return whole.rename({"recording_id": "recording_a", "recording_id_b": "recording_b"})


def _image_pairs(store: Store) -> pl.DataFrame:
    images = store.recordings.filter(pl.col("content").is_not_null()).select("recording_id", "content", "image")
    images = images.filter(pl.col("content").is_duplicated())
    one = images.unique("content").select("content", "image").iter_rows()
    flat = [content for content, image in one if _is_flat(store, image)]
    images = images.filter(~pl.col("content").is_in(flat))
    twins = images.join(images, on="content", suffix="_b").filter(pl.col("recording_id") < pl.col("recording_id_b"))
    return twins.select(
        recording_a="recording_id", recording_b="recording_id_b", channels=pl.lit(None), overlap_s=pl.lit(None)
    )


def _channels(store: Store) -> pl.DataFrame:
    """One row a channel that has a hash: (recording_id, stream, content, seconds) and where its samples lie."""
    hashed = pl.col("content").is_not_null() & (pl.col("n_samples") >= LEAST_SAMPLES)
    rows = store.streams.filter(hashed).select(
        "recording_id", "stream", "part", "start", "n_samples", "types", "content",
        seconds=pl.col("n_samples") * pl.col("rate_den") / pl.col("rate_num"),
        channel=pl.int_ranges(pl.col("content").list.len()),
    )  # fmt: skip
    rows = rows.explode("types", "content", "channel")
    return rows.filter(~pl.col("types").is_in(SILENT_TYPES))


def _places(channels: pl.DataFrame) -> Iterable[Row]:
    """For each hash one place where its samples are, in order of place."""
    one = channels.unique("content", keep="any").sort("part", "start")
    return one.select("content", "part", "channel", "start", "n_samples").iter_rows(named=True)


def _is_constant(store: Store, at: Row) -> bool:
    """Whether all samples of a channel are equal; most are not, and their first block says so."""
    array = ArrayReader(store.path)(f"{at['part']}/samples")
    row, start, stop = (at["channel"], at["channel"] + 1), at["start"], at["start"] + at["n_samples"]
    first = array.read([row, (start, start + 1)])
    blocks = ((low, min(low + READ_SAMPLES, stop)) for low in range(start, stop, READ_SAMPLES))
    return all(bool((array.read([row, block]) == first).all()) for block in blocks)


def _is_flat(store: Store, image: str) -> bool:
    """Whether all voxels of an image are equal."""
    array = ArrayReader(store.path)(f"{image}/0")
    rest = [(0, size) for size in array.shape[1:]]
    first = array.read([(0, 1)] * len(array.shape))
    return all(bool((array.read([(i, i + 1), *rest]) == first).all()) for i in range(array.shape[0]))
