"""One picture of a store: signals, images, counts by site and modality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harmonize.store import Store
from harmonize.store.views import ImageView, SignalView

SECONDS = 10.0
MAX_TRACES = 12
PANELS = 6


def draw_overview(store: Store, file: Path) -> None:
    """A PNG with one recording of each modality and the counts by site and modality."""
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(14, 9), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, 3).ravel()
        first = store.recordings.sort("modality", "recording_id").group_by("modality", maintain_order=True).first()
        for axis, name in zip(axes, first["recording_id"][: PANELS - 1], strict=False):
            view = store[name]
            if view.image is not None:
                _draw_slice(axis, view.image, f"{view.meta.modality}: {_origin(view.meta)}")
            else:
                longest = max(view.signals.values(), key=lambda signal: len(signal.meta.channels))
                _draw_traces(axis, longest, f"{view.meta.modality}: {_origin(view.meta)}")
        _draw_counts(axes[min(len(first), PANELS - 1)], store.recordings)
        for axis in axes[min(len(first), PANELS - 1) + 1 :]:
            axis.set_axis_off()
        figure.savefig(file, dpi=110)


def _origin(recording: Any) -> str:
    acquisition = recording.acquisition
    parts = (acquisition.site, acquisition.device_maker, acquisition.device_model)
    return ", ".join(part for part in parts if part) or "unknown site"


def _draw_traces(axis: Any, signal: SignalView, title: str) -> None:
    rate = float(signal.meta.rate_hz)
    n = min(signal.meta.n_samples, int(SECONDS * rate))
    channels = signal.meta.channels[:MAX_TRACES]
    values = signal.read(0, n)[: len(channels)]
    values = values - np.nanmedian(values, axis=1, keepdims=True)
    spread = float(np.nanpercentile(np.abs(values), 99)) * 2 or 1.0
    for place, row in enumerate(values):
        axis.plot(np.arange(n) / rate, row - place * spread, linewidth=0.5, color="#1f3b57")
    axis.set_yticks([-place * spread for place in range(len(channels))], [c.name for c in channels])
    units = sorted({channel.unit or channel.unit_found or "?" for channel in channels})
    axis.set_title(f"{title}\n{rate:g} Hz; one step = {spread:.3g} {', '.join(units)}", loc="left")
    axis.set_xlabel("seconds")
    axis.spines[["top", "right"]].set_visible(False)


def _draw_slice(axis: Any, image: ImageView, title: str) -> None:
    """The middle axial-most slice as acquired, at its true proportions."""
    x, y, z = image.shape[:3] if len(image.shape) > 2 else (*image.shape, 1)
    middle = [slice(0, x), slice(0, y), slice(z // 2, z // 2 + 1)] + [slice(0, 1)] * (len(image.shape) - 3)
    plane = image.read(middle[: len(image.shape)]).reshape(x, y).T
    spacing = image.meta.spacing_mm or (1.0, 1.0, 1.0)
    low, high = (-160, 240) if image.meta.unit == "HU" else np.nanpercentile(plane, (1, 99.5))
    axis.imshow(plane, cmap="gray", vmin=low, vmax=high, aspect=spacing[1] / spacing[0], interpolation="nearest")
    unit = image.meta.unit or "as stored"
    axis.set_title(f"{title}\nslice {z // 2} of {z}, {' x '.join(f'{s:.3g}' for s in spacing)} mm, {unit}", loc="left")
    axis.set_axis_off()


def _draw_counts(axis: Any, recordings: pl.DataFrame) -> None:
    counts = recordings.with_columns(pl.col("site").fill_null("unknown")).group_by("site", "modality").len()
    modalities = sorted(counts["modality"].unique())
    left = np.zeros(len(modalities))
    for site in sorted(counts["site"].unique()):
        here = dict(counts.filter(pl.col("site") == site).select("modality", "len").iter_rows())
        widths = np.array([here.get(name, 0) for name in modalities])
        axis.barh(modalities, widths, left=left, label=site)
        left += widths
    axis.set_title("recordings by modality and site", loc="left")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
