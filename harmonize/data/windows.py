"""Windows of signals as a map-style PyTorch data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
import polars as pl
import torch

from harmonize.data.annotated_windows import locked_windows, window_labels
from harmonize.data.annotations import Events
from harmonize.data.batch import BatchDataset, Placement, Sample, Wanted
from harmonize.data.derivations import canonical
from harmonize.data.domain_columns import domain_columns
from harmonize.data.domains import UNKNOWN, Codes
from harmonize.data.index import index_windows, samples_of
from harmonize.data.normalize import Normalize
from harmonize.data.reader import Chunks
from harmonize.data.rereference import Reference
from harmonize.data.shuffle import key, uniform
from harmonize.data.stream_table import common_channels, common_rate, one_stream_at_a_time, stream_table
from harmonize.data.views import Missing, check_options, view
from harmonize.data.window_labels import WindowLabel
from harmonize.data.window_reader import WindowReader
from harmonize.store import Store, open_store
from harmonize.store.place import Place

Starts = Literal["grid", "random"]


class WindowDataset(BatchDataset):
    """Every window of a store's signals, by number.

    Parameters
    ----------
    store
        A ``Store``, or its path or URL.
    window, stride
        Seconds; ``stride`` None: windows that touch. No window crosses a gap or a recording.
    rate
        Hz of every window (an int, "n/d" or ``Fraction``), resampled without delay where it differs from
        the stream's; None: the native rate, which must then be the same for all streams.
    channels
        Canonical names, in the order wanted; what a recording lacks is zero and False in
        ``channel_mask``. None: all channels, which must then be the same for all streams. A bipolar derivation
        ("F3-C3") is taken as recorded, else as anode minus cathode where a stream has both, of one type and one known
        unit; ``channels`` of the data set has its canonical name ("T3-C3" is T7-C3).
    where
        A polars expression or an SQL condition over the columns of ``Store.recordings`` and ``Store.labels``
        and ``rate_hz``, ``stream``, ``layout``, ``n_channels`` of its streams; also ``flat_share``,
        ``rail_share``, ``missing_share``, ``outside_share``, ``line50_share`` and ``line60_share`` (see
        ``harmonize.store.quality``) of the worst channel among those chosen.
    target
        A column of these: float32 for numbers, codes of its values for text, float32 (name,) of zeros and
        ones for a multi-label (its names in ``codes["target"].names``).
    domains
        More columns to put into samples as codes ("device_model", "fold", a label).
    transform
        Applied to each sample (a dict) before it is returned.
    dtype
        Of ``signal``: ``torch.float32``, ``torch.float16`` or ``torch.bfloat16``. None: native integers with
        ``scale``, ``offset`` and ``missing`` float64 (channel,), for ``decode`` on a GPU; without derivations that
        are computed, and the options below.
    reference
        None: as recorded. "average": from each EEG channel chosen, the mean of those that are present at that sample.
        A name, or several: the mean of these electrodes, which every stream with EEG must have, whether chosen or not;
        where one of them is missing, so are the others. Derivations and channels of other types stay as they are.
        Electrodes of a stream are taken to have been recorded against one reference.
    normalize
        "channel": less the mean, over the standard deviation, of the channel in its whole recording. "recording": the
        same with one mean and one standard deviation of all channels chosen, which must be of one unit. Both are the
        catalog's, of samples as recorded, and not for ``reference`` and derivations that are computed. "robust": each
        channel of a window less its median, over its interquartile range. What never changes (for "robust": has a
        range of zero) or has no statistics becomes zero.
    missing
        "nan", or "mask": missing samples are 0 after all else, and True in ``missing_mask`` bool (channel, time). Where
        a window is resampled, all samples that the filter makes of a missing one are missing, 16 of the slower
        rate to either side. Channels that are absent are False there too.
    starts
        "grid": every ``stride``. "random": as many windows, each drawn anew each epoch (``set_epoch``; a stream does
        so) from the starts around its place of the grid, less than a stride away, inside its segment. All starts are
        equally likely. A start is a function of ``seed``, epoch and the window's number alone.
    events, offset
        Instead of a grid one window an annotation, whose first sample is the nearest to ``offset`` seconds after the
        onset (-0.2: before it). ``events`` is a label, a list of labels, or a polars expression or SQL condition over
        the columns of ``Store.annotations``. Windows that do not fit in their segment are left out; how many is in
        ``events_left_out``, and logged.
    label
        A ``WindowLabel``: how windows get a label from annotations.

    Samples are dicts: ``signal`` float32 (channel, time) in canonical units, missing samples NaN;
    ``channel_mask`` bool (channel,); int64 codes ``dataset``, ``site``, ``device``, ``subject``, ``sex``
    (-1: unknown; names through ``codes``); ``age`` float32; ``start`` float64, seconds from the
    recording's start; ``recording_id``; ``target`` and ``label`` where asked. An annotation that names a channel
    concerns the windows that have this channel; one of a trigger channel concerns all. Memory grows with the number
    of streams and segments (of events, and of annotations with a label asked for), not of windows. Nothing of the
    store is open before the first read in a process, so workers may be forked or spawned.

    Raises
    ------
    ValueError
        Where the streams chosen differ in rate or channels and nothing says how to make them alike, where
        one recording has the channels in several streams at one time, where there is no window at all, or where a
        stream cannot be seen as ``reference`` and ``normalize`` say.
    """

    def __init__(
        self,
        store: Store | str | Place,
        window: float = 10.0,
        stride: float | None = None,
        rate: int | str | Fraction | None = None,
        channels: Sequence[str] | None = None,
        where: pl.Expr | str | None = None,
        target: str | None = None,
        domains: Sequence[str] = (),
        transform: Callable[[Sample], Sample] | None = None,
        dtype: torch.dtype | None = torch.float32,
        reference: Reference | None = None,
        normalize: Normalize | None = None,
        missing: Missing = "nan",
        *,
        starts: Starts = "grid",
        seed: int = 0,
        events: Events | None = None,
        offset: float = 0.0,
        label: WindowLabel | None = None,
    ) -> None:
        check_options(reference, normalize, missing, native=dtype is None)
        if starts not in ("grid", "random"):
            raise ValueError(f"starts={starts!r} is none of 'grid', 'random'")
        if events is not None and (stride is not None or starts != "grid"):
            raise ValueError("windows of events start at their events: stride= and starts= are of a grid")
        if label is not None and "label" in domains:
            raise ValueError("label= and a domain 'label' would have one name in samples")
        channels = None if channels is None else canonical(channels)
        store = store if isinstance(store, Store) else open_store(store)
        self._opened, self._choice = (store.path, store.version), (where, channels)
        streams = stream_table(
            store,
            where,
            channels,
            target,
            *domains,
            *(() if reference is None else ("reference",)),
            typed=reference is not None or normalize == "recording",
            statistics=normalize in ("channel", "recording"),
        )
        table = streams.rows
        if table.is_empty():
            raise ValueError("no stream of the store has these channels, or meets this condition")
        self.channels: tuple[str, ...] = channels if channels is not None else common_channels(streams)
        self.rate_hz: Fraction = Fraction(rate) if rate is not None else common_rate(table)
        one_stream_at_a_time(table)
        self.window_s = window
        self.n_samples = samples_of(window, self.rate_hz)
        self.starts, self.seed = starts, seed
        locked = None if events is None else locked_windows(store, streams, self.channels, events, window, offset)
        self.events_left_out = 0 if locked is None else locked.left_out
        self._index = locked.windows if locked else index_windows(table, window, window if stride is None else stride)
        if len(self._index) == 0:
            raise ValueError(f"no stream is as long as a window of {window} s")
        super().__init__(domain_columns(table, target, domains), transform)
        self.dtype = dtype
        self._label = label
        self._labels = None
        if label is not None:
            self._labels = window_labels(label, store, streams, self.channels, self._index, locked)
        self._view = view(streams, self.channels, reference, normalize, missing)
        if dtype is None and self._view is not None:
            raise ValueError("dtype=None gives native integers, of which no derivation is computed")
        read = self.channels if self._view is None else self._view.inputs
        self._reader = WindowReader(
            store.path,
            streams,
            self._index,
            read,
            self.rate_hz,
            self.n_samples,
            native=dtype is None,
            affine=None if self._view is None else self._view.affine,
        )

    def __len__(self) -> int:
        return len(self._index)

    @property
    def content(self) -> str:
        """See ``BatchDataset.content``."""
        return "signal"

    @property
    def shape(self) -> tuple[int, ...]:
        """(channel, time) of a window."""
        return len(self.channels), self.n_samples

    @property
    def codes(self) -> dict[str, Codes]:
        """Names of the integer codes: ``ds.codes["site"][0]``; ``ds.codes["label"]`` where labels were asked for."""
        if self._label is None:
            return super().codes
        unknown = np.broadcast_to(np.int64(UNKNOWN), len(self._domains.recording_id))
        return super().codes | {"label": Codes(self._label.names, unknown)}

    def row_sizes(self) -> np.ndarray:
        """Windows of each stream."""
        per_run = np.diff(self._index.ends, prepend=0)
        return np.bincount(self._index.stream, per_run, len(self._domains.recording_id)).astype(np.int64)

    def placement(self) -> Placement:
        """See ``BatchDataset.placement``."""
        return self._reader.placement(int(self.row_sizes().argmax()))

    def fingerprint(self) -> str:
        """See ``BatchDataset.fingerprint``."""
        hashed = hashlib.sha256("\n".join(self._domains.recording_id).encode())
        index = self._index
        columns = (index.stream, index.onset_s, index.run_samples, index.length, index.step)
        for column in columns if index.first is None else (*columns, index.ends, index.first):
            hashed.update(np.ascontiguousarray(column).tobytes())
        if self.starts == "random":
            hashed.update(f"random {self.seed}".encode())
        return hashed.hexdigest()

    def _other_codes_of(self, field: str) -> Codes:
        return self._codes_in(stream_table(open_store(*self._opened), *self._choice, field).rows, field)

    def ahead(self, wanted: Wanted, near: Wanted) -> Callable[[], None]:
        """See ``BatchDataset.ahead``."""
        return self._reader.ahead(*((*self._index.locate(numbers), chunks) for numbers, chunks in (wanted, near)))

    def read(self, numbers: np.ndarray, chunks: Sequence[Chunks]) -> Sequence[Sample]:
        """Windows by number; see ``BatchDataset.read``."""
        run, first = self._index.locate(numbers)
        if self.starts == "random":
            first = self._index.jittered(run, first, uniform(key(self.seed, int(self._epoch[0]), numbers), 0))
        stream = self._index.stream[run]
        values = self._reader.read(run, first, chunks)
        columns: dict[str, np.ndarray | torch.Tensor] = {
            "signal": values,
            "channel_mask": self._reader.maps.present(stream),
            "start": self._index.onset_s[run] + first / self._index.rate_hz[run],
        }
        if self._view is not None:
            columns |= self._view(values, stream, chunks[0].memory)
        if self._labels is not None:
            columns["label"] = self._labels.read(numbers, run, first)
        if self.dtype is not None:
            columns["signal"] = torch.as_tensor(columns["signal"]).to(self.dtype)
        else:
            columns |= dict(zip(("scale", "offset", "missing"), self._reader.maps.terms(stream), strict=True))
        return self._batch(columns, stream)


def decode(batch: Sample, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Values of native integers, on the device where the batch is: signal * scale + offset, missing samples NaN.

    ``batch`` is a batch or sample of a data set with ``dtype=None``. As on the CPU, the arithmetic is float32 up to 16
    bits, else float64.
    """
    signal = batch["signal"]
    kind = torch.float32 if signal.element_size() <= 2 else torch.float64
    scale, offset = (batch[name].unsqueeze(-1).to(kind) for name in ("scale", "offset"))
    values: torch.Tensor = (signal * scale).add_(offset)
    return values.masked_fill_(signal == batch["missing"].unsqueeze(-1), torch.nan).to(dtype)
