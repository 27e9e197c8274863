"""The store as a reader and a converter see it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import polars as pl
from zarr.errors import GroupNotFoundError

from harmonize.store import catalog
from harmonize.store.errors import StoreError
from harmonize.store.labels import widen
from harmonize.store.place import Place, create, entries_in, open_group, place_of
from harmonize.store.sharded import ShardedArray
from harmonize.store.versions import require_version, resolve
from harmonize.store.views import ImageView, RecordingView, SignalView, read_document
from harmonize_schemas import Recording

FORMAT = "0.3"
GROUPS = ("signals", "images", "catalog")


class Store:
    """A store at one version: what its catalog names, and nothing else.

    Tables are polars frames, read once, when first asked for. Get one with ``harmonize.open``.
    """

    def __init__(self, path: Place, version: int | None = None) -> None:
        self.path = path
        self.attributes = _attributes(path)
        if version is not None:
            require_version(path, version)
        self.version = catalog.version_of(path) if version is None else version

    def __repr__(self) -> str:
        return f"<Store {str(self.path)!r} version {self.version}: {len(self)} recordings>"

    def __len__(self) -> int:
        return len(self.recordings)

    @cached_property
    def recordings(self) -> pl.DataFrame:
        """One row a recording: ids, domain fields, demographics, format, flags."""
        return self._of_version(catalog.read, "recordings")

    def _of_version(self, read: Callable[..., pl.DataFrame], *what: Any) -> pl.DataFrame:
        """What ``read`` gives of this version. Raises ``StoreError`` where it was removed since."""
        try:
            return read(self.path, *what, version=self.version)
        except StoreError:
            require_version(self.path, self.version)
            raise

    @cached_property
    def streams(self) -> pl.DataFrame:
        """One row a stream: where its samples lie, its rate, channels, scales and segments."""
        return catalog.read_committed(self.path, "streams", self.recordings)

    def streams_by_kind(
        self, columns: Sequence[str], kind: Sequence[str], of_recordings: Sequence[str], coded: Collection[str] = ()
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """These columns of ``streams`` and of their recordings, and the distinct rows of other columns of ``streams``
        (lists that most streams have in common): column ``_kind`` of the first, int64, says which row of the second.
        Texts of ``coded`` are categories, which take a quarter.
        Takes a fraction of the memory that the whole tables take. The order of rows is any."""
        pair = catalog.pair_hash("recording_id", "commit")
        asked = list(map(partial(_column, coded), dict.fromkeys([*columns, "recording_id"])))
        rows, kinds = catalog.read_by_kind(self.path, "streams", [*asked, pair], kind)
        wanted = [*map(partial(_column, coded), sorted({*of_recordings, "recording_id"})), pair]
        if "recordings" in self.__dict__:
            recordings = self.recordings.select(wanted)
        else:  # all columns take 550 bytes a recording
            recordings = self._of_version(catalog.read_columns, "recordings", wanted)
        # By a hash: a join by texts takes three times the memory. Which are then compared.
        recordings = recordings.rename({"recording_id": "_named"})
        rows = rows.join(recordings, on="_pair", how="left").drop("_pair")
        named = rows["recording_id"].eq_missing(rows["_named"])
        if not named.all():
            rows = rows.filter(named)
        return rows.drop("_named"), kinds

    @cached_property
    def annotations(self) -> pl.DataFrame:
        """One row an event."""
        frame = catalog.read_committed(self.path, "annotations", self.recordings)
        return frame.sort("recording_id", "onset_s", maintain_order=True)

    def annotations_where(self, condition: pl.Expr, columns: Sequence[str], recordings: pl.DataFrame) -> pl.DataFrame:
        """These columns of the events that meet a condition, of ``recordings`` (recording_id), without holding the
        whole table. The order of rows is any."""
        named = self.recordings.join(recordings, on="recording_id", how="semi")
        return catalog.read_where(self.path, "annotations", named, condition, columns)

    @cached_property
    def labels(self) -> pl.DataFrame:
        """One row a recording that has labels, one column a label: text, number or truth value, or a list of
        texts for a multi-label (its numbers, if any, are in the documents and in ``label_rows``)."""
        return widen(self.label_rows)

    @cached_property
    def label_rows(self) -> pl.DataFrame:
        """One row a value of a label: name, kind (text, number, bool, list, dict), value and number."""
        return catalog.read_committed(self.path, "labels", self.recordings)

    @cached_property
    def sources(self) -> pl.DataFrame:
        """One row a source file: its part, size and SHA-256, and whether it holds other recordings too."""
        return catalog.read_committed(self.path, "sources", self.recordings)

    @cached_property
    def datasets(self) -> pl.DataFrame:
        """One row a data set: title, licence, citation, access and privacy, as its recipe says."""
        return catalog.read_derived(self.path, "datasets")[0].sort("dataset")

    @cached_property
    def duplicates(self) -> pl.DataFrame:
        """One row a pair of recordings with the same data, as ``harmonize.data.duplicates`` last found them."""
        return catalog.read_derived(self.path, "duplicates")[0]

    @property
    def duplicates_version(self) -> int | None:
        """The store's version that duplicates were last searched in; None: never."""
        return catalog.read_derived(self.path, "duplicates")[1]

    @cached_property
    def splits(self) -> pl.DataFrame:
        """One row a split and recording: its group, its side, or the reason why it has none."""
        return catalog.read_derived(self.path, "splits")[0]

    @cached_property
    def runs(self) -> pl.DataFrame:
        """One row a run of ``convert`` that came to its end: when, with what, and what it did."""
        return catalog.read_derived(self.path, "runs")[0].sort("ended")

    @cached_property
    def failures(self) -> pl.DataFrame:
        """One row a source that could not be converted, and why (always of the newest version)."""
        return catalog.read(self.path, "failures")

    def __getitem__(self, recording_id: str) -> RecordingView:
        """A recording by its id. Raises ``KeyError``."""
        rows = self.recordings.filter(pl.col("recording_id") == recording_id)
        if rows.is_empty():
            raise KeyError(recording_id)
        image = rows["image"][0]
        if image is not None:
            meta = read_document(self.path, image, None)
            if meta.image is None:
                raise StoreError(f"{image} describes no image")
            return RecordingView(meta, {}, ImageView(meta.image, ShardedArray(self.path / image / "0")))
        streams = self.streams.filter(pl.col("recording_id") == recording_id).sort("stream_index")
        places = list(streams.select("part", "row", "start").iter_rows(named=True))
        if not places:  # events alone: no part holds its document
            return RecordingView(Recording.model_validate_json(rows["document"][0]), {}, None)
        meta = read_document(self.path, places[0]["part"], places[0]["row"])
        views = {
            stream.name: SignalView(stream, ShardedArray(self.path / at["part"] / "samples"), at["start"])
            for stream, at in zip(meta.streams, places, strict=True)
        }
        return RecordingView(meta, views, None)

    @cached_property
    def segmentations(self) -> pl.DataFrame:
        """One row an image (``recording_id``) and a ``segmentation`` of it: one that was made from the image's series,
        in the same data set and frame of reference. A series of several images has a row for each of them."""
        made = self.recordings.explode("derived_from").filter(pl.col("derived_from").is_not_null())
        made = made.select("dataset", series="derived_from", segmentation="recording_id", made_in="frame_of_reference")
        pairs = self.recordings.filter(pl.col("image").is_not_null()).join(made, on=["dataset", "series"])
        # a frame that one of them does not name is taken to be the same, because the segmentation names the series
        same = (pl.col("frame_of_reference") == pl.col("made_in")).fill_null(True)
        return pairs.filter(same).select("recording_id", "segmentation").unique().sort("recording_id", "segmentation")

    def segmentations_of(self, recording_id: str) -> list[str]:
        """The ids of an image's ``segmentations``. With ``image = store[recording_id].image``, the labels of one on the
        image's grid are ``store[id].image.on_grid(image.affine, image.shape[:3])``. Raises ``KeyError``."""
        if recording_id not in self.recordings["recording_id"]:
            raise KeyError(recording_id)
        of_it = self.segmentations.filter(pl.col("recording_id") == recording_id)
        return of_it["segmentation"].to_list()


def _column(coded: Collection[str], name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Categorical) if name in coded else pl.col(name)


def _attributes(path: Place) -> dict[str, Any]:
    try:
        attributes: Any = open_group(path).attrs.get("harmonize")
    except (GroupNotFoundError, FileNotFoundError):
        raise StoreError(f"there is no store at {path}") from None
    if not attributes or attributes.get("format") != FORMAT:
        raise StoreError(f"{path} is not a harmonize store of format {FORMAT}")
    return dict(attributes)


def _group(attributes: dict[str, Any]) -> bytes:
    """The metadata of a Zarr group."""
    return json.dumps({"attributes": attributes, "zarr_format": 3, "node_type": "group"}).encode()


def open_store(path: str | Place, version: int | str | None = None) -> Store:
    """Open a store to read, by its path or URL (``s3://bucket/corpus.zarr``), at its newest version or an older one, by
    number or tag. Raises ``StoreError``."""
    root = place_of(path)
    _attributes(root)  # says so where there is no store, before tags are looked for
    return Store(root, None if version is None else resolve(root, version))


def is_store(path: Place, key_id: str) -> bool:
    """Whether there is a store to convert into; False where one would be made. Writes nothing.

    Raises ``StoreError`` as ``create_store`` does.
    """
    if (path / "zarr.json").exists():
        if _attributes(path)["key_id"] != key_id:
            raise StoreError(
                f"the store was made under the project key {_attributes(path)['key_id']}, and this one is {key_id}; "
                "give that key with --key. A lost key cannot be made again: convert into a new store then"
            )
        return True
    # A run killed while zarr wrote metadata leaves a half-written file of this kind, which nobody reads.
    there = {name for name in entries_in(path) if not name.endswith(".partial")}
    if foreign := there - set(GROUPS):
        raise StoreError(f"{path} is not a store and not empty: it holds {len(foreign)} other entries")
    return False


def create_store(path: Place, key_id: str) -> None:
    """Make an empty store, or check that the one there was made under the same project key.

    Raises ``StoreError`` where the path holds something else or the key differs: pseudonyms made under
    two keys cannot be told apart.
    """
    if is_store(path, key_id):
        catalog.create_tables(path)
        return
    for name in GROUPS:
        with suppress(FileExistsError):  # another process may make the same store at this moment
            create(path / name / "zarr.json", _group({}))
    catalog.create_tables(path)
    # The root's metadata come last: a run killed before this line leaves no store at all.
    attributes = {"harmonize": {"format": FORMAT, "uuid": uuid.uuid4().hex, "key_id": key_id}}
    try:
        create(path / "zarr.json", _group(attributes))
    except FileExistsError:
        create_store(path, key_id)  # the other was first: is it under the same key?
