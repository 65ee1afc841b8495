"""What a model answers on encoded rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from intrinsic_cli.tasks.batches import Encoded, batches, collate
from intrinsic_cli.training import ranks
from intrinsic_cli.training.device import Compute


def evaluate(
    model: nn.Module, encoded: Encoded, compute: Compute, batch_size: int
) -> tuple[np.ndarray, float]:
    """Predictions in the rows' order, (n,) class ids or values, and the mean loss over the rows.

    The model lies on the device, and is in training mode again afterwards.
    """
    model.eval()
    regression = encoded.labels.dtype.kind == "f"
    predictions = np.zeros(len(encoded), dtype=np.float64 if regression else np.int64)
    loss = 0.0
    with torch.inference_mode():
        for rows in ranks.share(batches(encoded, batch_size, None)):
            with compute.autocast():
                output = model(**compute.batch(collate(encoded, rows)))
            logits = output.logits.float()
            predictions[rows] = (logits.squeeze(-1) if regression else logits.argmax(-1)).cpu().numpy()
            loss += output.loss.item() * len(rows)
    model.train()
    everybody = ranks.total(torch.from_numpy(predictions).to(compute.device)).cpu().numpy()
    loss = ranks.total(torch.tensor(loss, dtype=torch.float64, device=compute.device)).item()
    return everybody, loss / len(encoded)
