"""Views: masks of missing samples, and what views and streams have to do with each other."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harmonize.data import WindowDataset, WindowStream
from montages import MISSING, quiet, typed
from stores import noise, recording, write_signals

# ---- masks


@pytest.mark.parametrize(
    "options", [{}, {"normalize": "channel"}, {"normalize": "robust"}, {"rate": 50}, {"rate": 130}]
)
def test_a_mask_says_what_is_nan_without_it(
    uneven: tuple[Path, dict[str, np.ndarray]], options: dict[str, Any]
) -> None:
    root, _ = uneven
    wanted = ["Pz", "C3", "C4", "Oz"]
    plain = WindowDataset(root, window=1.0, channels=wanted, **options)
    masked = WindowDataset(root, window=1.0, channels=wanted, missing="mask", **options)
    assert "missing_mask" not in plain[0]
    for a, b in zip(plain.__getitems__(range(len(plain))), masked.__getitems__(range(len(masked))), strict=True):
        assert b["missing_mask"].dtype == torch.bool
        assert torch.equal(b["missing_mask"], a["signal"].isnan())
        assert torch.equal(b["signal"], a["signal"].nan_to_num(0))
        assert not b["missing_mask"][3].any()
        assert torch.equal(a["channel_mask"], b["channel_mask"])


def test_a_mask_by_hand(tmp_path: Path) -> None:
    values = np.array([[2, -32768, 4, 6], [8, 8, 8, 8]], np.int16)
    write_signals(
        tmp_path / "s.zarr",
        [(recording("a", [typed(4, ("C3", "C4"), rate=4, missing=MISSING)]), values)],
        measured=True,
    )
    data = WindowDataset(tmp_path / "s.zarr", window=1.0, normalize="channel", missing="mask")
    sample = data[0]
    assert sample["missing_mask"].tolist() == [[False, True, False, False], [False] * 4]
    z = 1.5**0.5  # 1, 2 and 3 µV: mean 2, standard deviation sqrt(2 / 3)
    np.testing.assert_allclose(sample["signal"].numpy(), [[-z, 0, 0, z], [0, 0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("rate", [50, 200])
def test_a_missing_sample_spreads_over_the_filter(tmp_path: Path, rate: int) -> None:
    """16 samples of the slower rate to either side, and no further."""
    values = quiet((1, 600))
    values[0, 300] = MISSING
    write_signals(tmp_path / "s.zarr", [(recording("a", [typed(600, ("C3",), missing=MISSING)]), values)])
    sample = WindowDataset(tmp_path / "s.zarr", window=6.0, rate=rate, missing="mask")[0]
    times = np.flatnonzero(sample["missing_mask"][0].numpy()) / rate
    reach = 16 / min(rate, 100)
    assert (times.min(), times.max()) == pytest.approx((3 - reach, 3 + reach), abs=1.01 / rate)
    assert len(times) == round((times.max() - times.min()) * rate) + 1


# ---- native integers, streams, other types


def test_native_integers_have_no_views(root: Path) -> None:
    for options in ({"reference": "average"}, {"normalize": "robust"}, {"normalize": "channel"}, {"missing": "mask"}):
        with pytest.raises(ValueError, match="dtype=None gives native integers"):
            WindowDataset(root, window=1.0, dtype=None, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no derivation is computed"):
        WindowDataset(root, window=1.0, dtype=None, channels=["C3-C4"])


@pytest.mark.parametrize(
    "options",
    [
        {"channels": ["C3-P3", "C3", "Cz", "P3"], "reference": "average", "normalize": "robust", "missing": "mask"},
        {"channels": ["C3", "Cz"], "reference": ("P3",), "rate": 80},
        {"channels": ["C3", "Cz"], "normalize": "channel", "missing": "mask", "dtype": torch.bfloat16},
        {"normalize": "recording"},
    ],
)
def test_a_stream_gives_what_the_data_set_gives(tmp_path: Path, options: dict[str, Any]) -> None:
    root = tmp_path / "s.zarr"
    items = [
        (
            recording(f"{n}", [typed(500 + 100 * n, ("C3", "P3", "Cz"), missing=MISSING)]),
            noise((3, 500 + 100 * n), seed=n),
        )
        for n in range(4)
    ]
    for _, values in items:
        values[0, 40:44] = MISSING
    write_signals(root, items, measured=True)
    data = WindowDataset(root, window=0.5, **options)
    by_key = {(s["recording_id"], float(s["start"])): s for s in data.__getitems__(range(len(data)))}
    alone = pickle.loads(pickle.dumps(data))[3]  # as in a worker
    torch.testing.assert_close(
        alone["signal"], by_key[alone["recording_id"], float(alone["start"])]["signal"], rtol=0, atol=0, equal_nan=True
    )
    seen = 0
    for _ in range(2):  # the second time with memory that was used before
        for batch in WindowStream(root, window=0.5, batch_size=5, threads=2, **options):
            assert batch["signal"].is_contiguous()
            for i, key in enumerate(zip(batch["recording_id"], batch["start"].tolist(), strict=True)):
                seen += 1
                for name, value in by_key[key].items():
                    if isinstance(value, torch.Tensor):
                        torch.testing.assert_close(batch[name][i], value, rtol=0, atol=0, equal_nan=True)
    assert seen == 2 * len(data)
