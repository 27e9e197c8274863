"""The demo: files of many formats to a store, to batches, to a model, to a picture."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import torch
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from harmonize.data import PatchDataset, WindowDataset
from harmonize.ingest import ProjectKey, convert
from harmonize.report.demo_cohort import TEN_TWENTY, write_cohort
from harmonize.report.overview import draw_overview
from harmonize.report.tables import counts_table, failures_table
from harmonize.store import open_store
from harmonize_converters.channels import canonical_name

STEPS = 20
BATCH = 32


def run_demo(folder: Path, out: Console) -> None:
    """Leave ``cohort/``, ``demo.zarr`` and ``overview.png`` in ``folder``."""
    began = time.perf_counter()
    cohort, path, picture = folder / "cohort", folder / "demo.zarr", folder / "overview.png"
    out.rule("1. a cohort of two hospitals, in the formats their devices write")
    write_cohort(cohort)
    kinds = Counter(file.suffix or file.name for file in cohort.rglob("*") if file.is_file())
    out.print(f"{cohort}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))

    out.rule("2. convert")
    key = ProjectKey(b"a key for made-up data: nothing to hide")
    outcome = convert(cohort, path, recipe=cohort / "recipe.yaml", key=key)
    store = open_store(path)
    out.print(counts_table([store[name].meta for name in store.recordings["recording_id"]]))
    out.print(
        f"{outcome.converted} recordings, {outcome.raw_bytes / 1e6:.1f} MB of samples in {outcome.seconds:.1f} s "
        f"({outcome.raw_bytes / 1e6 / outcome.seconds:.0f} MB/s), {len(outcome.failures)} failures"
    )
    if outcome.failures:
        out.print(failures_table(outcome.failures))
    stages = store.annotations["label"].value_counts(sort=True)
    out.print("events: " + ", ".join(f"{label} {count}" for label, count in stages.iter_rows()))

    out.rule("3. stream shuffled batches, site and device on every sample")
    channels = [canonical_name(name).name for name in TEN_TWENTY]
    eeg = WindowDataset(store, window=4.0, stride=1.0, rate=128, channels=channels, where="modality = 'eeg'")
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(eeg, batch_size=BATCH, shuffle=True, collate_fn=eeg.collate, generator=generator)
    start, windows = time.perf_counter(), 0
    for number, batch in enumerate(loader):
        windows += len(batch["start"])
        if number < 3:
            names = Counter(eeg.codes["site"][int(code)] for code in batch["site"])
            shape = tuple(batch["signal"].shape)
            out.print(
                f"batch {number}: signal {shape} float32 µV, site codes {batch['site'][:8].tolist()}..., {dict(names)}"
            )
    rate = windows / (time.perf_counter() - start)
    out.print(f"{windows} EEG windows of 4 s at 128 Hz, resampled from 256 and 512 Hz: {rate:.0f} windows/s")
    _stream_ecg(path, out)
    ct = PatchDataset(store, patch=(48, 48, 16), where="modality = 'ct'")
    patch = ct[len(ct) // 2]
    out.print(
        f"{len(ct)} CT patches {tuple(patch['image'].shape)}, mean {float(patch['image'].mean()):.0f} HU, "
        f"site {ct.codes['site'][int(patch['site'])]}"
    )

    out.rule("4. train: fill in masked samples")
    losses = _train(loader)
    out.print(f"{len(losses)} steps, mean squared error {losses[0]:.3f} -> {losses[-1]:.3f} (of unit variance)")

    out.rule("5. look")
    draw_overview(store, picture)
    out.print(f"store {path}\npicture {picture}\ndone in {time.perf_counter() - began:.1f} s")


def _stream_ecg(path: Path, out: Console) -> None:
    ecg = WindowDataset(path, window=10.0, where="modality = 'ecg'")
    start, windows = time.perf_counter(), 0
    for batch in DataLoader(ecg, batch_size=8, shuffle=True, collate_fn=ecg.collate):
        windows += len(batch["start"])
    rate = windows / (time.perf_counter() - start)
    devices = ", ".join(ecg.codes["device"].names)
    out.print(f"{windows} whole 12-lead ECGs of {devices}: {rate:.0f} windows/s")


def _train(loader: DataLoader[dict[str, torch.Tensor]]) -> list[float]:
    """Losses of a tiny masked autoencoder, to show the loop; not a model anyone should use."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(19, 32, 15, padding=7), nn.GELU(), nn.Conv1d(32, 19, 15, padding=7))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses: list[float] = []
    while len(losses) < STEPS:
        for batch in loader:
            signal = batch["signal"]
            signal = (signal - signal.mean(-1, keepdim=True)) / (signal.std(-1, keepdim=True) + 1e-6)
            hidden = torch.rand(signal.shape[0], 1, signal.shape[2]) < 0.2
            error = (model(signal.masked_fill(hidden, 0.0)) - signal).square()
            weight = hidden & batch["channel_mask"][..., None]
            loss = (error * weight).sum() / weight.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            if len(losses) == STEPS:
                break
    return losses
