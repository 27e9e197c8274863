"""Recordings as the objects of other libraries, imported only when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harmonize.store.views import RecordingView, SignalView

if TYPE_CHECKING:
    import mne
    import nibabel

_MNE_TYPES = {
    "eeg": "eeg", "eog": "eog", "emg": "emg", "ecg": "ecg", "ieeg": "seeg", "trigger": "stim", "resp": "resp",
    "temperature": "temperature", "eda": "gsr", "meg_mag": "mag", "meg_grad": "grad",
    "meg_grad_axial": "mag", "meg_ref": "ref_meg",
}  # fmt: skip
_TO_SI = {"µV": 1e-6, "mV": 1e-3, "V": 1.0, "fT": 1e-15, "fT/cm": 1e-13, "µS": 1e-6, "degC": 1.0}


def to_mne(view: RecordingView, stream: str | None = None) -> mne.io.RawArray:
    """One stream as an ``mne.io.RawArray`` in MNE's SI units, gaps marked as "BAD_ACQ_SKIP".

    Channels without a known unit become "misc" with their values as they are. Raises ``ValueError`` where
    the recording has several streams and none is named, or where names repeat.
    """
    import mne

    signal = _one_stream(view, stream)
    channels = signal.meta.channels
    known = [channel.unit in _TO_SI or channel.type == "trigger" for channel in channels]
    types = [_MNE_TYPES.get(c.type, "misc") if ok else "misc" for c, ok in zip(channels, known, strict=True)]
    factors = [
        _TO_SI.get(c.unit or "", 1.0) if kind != "misc" else 1.0 for c, kind in zip(channels, types, strict=True)
    ]
    info = mne.create_info([channel.name for channel in channels], float(signal.meta.rate_hz), types)
    values = signal.read().astype(np.float64) * np.array(factors)[:, None]
    raw = mne.io.RawArray(values, info, verbose="error")
    for segment in signal.meta.segments[1:]:
        at = segment.start / float(signal.meta.rate_hz)
        raw.annotations.append(at, 0.0, "BAD_ACQ_SKIP")
    return raw


def to_nibabel(view: RecordingView) -> nibabel.Nifti1Image:
    """The image as a ``nibabel.Nifti1Image`` of float32 values: (x, y, z), (x, y, z, t), or (x, y, z, t, c) in colour
    or with a channel for each segment. Raises ``ValueError`` for signals and for slices at uneven steps."""
    import nibabel

    if view.image is None:
        raise ValueError("the recording is no image")
    if view.image.meta.slice_places is not None:
        raise ValueError("its slices lie at uneven steps, which NIfTI cannot say")
    meta, axes = view.image.meta, view.image.meta.axes[::-1]
    sizes: dict[str, int] = dict(zip(axes, view.image.shape, strict=True))
    values = view.image.read().transpose([axes.index(axis) for axis in "xyztc" if axis in axes])
    rank = 5 if "c" in axes else 4 if "t" in axes else 3
    image = nibabel.Nifti1Image(values.reshape([sizes.get(axis, 1) for axis in "xyztc"[:rank]]), view.image.affine)
    image.header.set_xyzt_units("mm" if meta.spacing_mm else "unknown", "sec" if meta.time_step_s else "unknown")
    if view.image.affine is None and meta.spacing_mm is not None:
        image.header.set_zooms((*meta.spacing_mm, *image.header.get_zooms()[len(meta.spacing_mm) :]))
    if "c" in axes:
        image.header.set_intent("rgb vector" if meta.photometric == "RGB" else "vector")
    return image


def to_xarray(view: RecordingView, stream: str | None = None) -> Any:
    """A stream as an ``xarray.DataArray`` (channel, time in s) or the image (x, y, z, ...); needs xarray."""
    import xarray

    if view.image is not None:
        return xarray.DataArray(view.image.read(), dims=view.image.meta.axes[::-1])
    signal = _one_stream(view, stream)
    rate = float(signal.meta.rate_hz)
    parts = [segment.onset_s + np.arange(segment.n_samples) / rate for segment in signal.meta.segments]
    coords = {"channel": [channel.name for channel in signal.meta.channels], "time": np.concatenate(parts)}
    return xarray.DataArray(signal.read(), coords=coords, dims=("channel", "time"))


def _one_stream(view: RecordingView, name: str | None) -> SignalView:
    if name is None and len(view.signals) != 1:
        raise ValueError(f"name one of the streams {sorted(view.signals)}")
    return view.signals[name or next(iter(view.signals))]
