"""A Lightning trainer that is stopped within an epoch goes on with the next batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harmonize.data import WindowStream
from stores import noise, recording, stream, write_signals

pytestmark = pytest.mark.filterwarnings("ignore")  # of Lightning's own


def test_a_trainer_goes_on_within_an_epoch(tmp_path: Path) -> None:
    import lightning  # here, where its warnings are none of ours
    from torchdata.stateful_dataloader import StatefulDataLoader

    write_signals(tmp_path / "s.zarr", [(recording(str(n), [stream(800)]), noise((2, 800), seed=n)) for n in range(6)])

    class Model(lightning.LightningModule):
        def __init__(self, stop: int | None) -> None:
            super().__init__()
            self.weight, self.seen, self.stop = torch.nn.Parameter(torch.zeros(1)), list[Any](), stop

        def training_step(self, batch: dict[str, Any], number: int) -> torch.Tensor:
            self.seen.append(list(zip(batch["recording_id"], batch["start"].tolist(), strict=True)))
            if self.stop is not None and len(self.seen) == self.stop:
                self.trainer.save_checkpoint(tmp_path / "stopped.ckpt")
                self.trainer.should_stop = True
            return self.weight.sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    def train(stop: int | None, checkpoint: Path | None) -> list[Any]:
        loader = StatefulDataLoader(WindowStream(tmp_path / "s.zarr", 1.0, 8), None)
        model = Model(stop)
        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(model, loader, ckpt_path=checkpoint)
        return model.seen

    whole = train(None, None)
    assert len(whole) == 12
    first = train(4, None)[:4]
    assert first + train(None, tmp_path / "stopped.ckpt") == whole
