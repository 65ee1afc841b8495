"""A real pre-trained model, real text, and a random subspace of it that learns."""

import json
import math
from importlib.util import find_spec

import pytest

from intrinsic_cli.cli import main as cli
from intrinsic_cli.models.checkpoints import MINILM_PACKAGE


@pytest.mark.skipif(
    find_spec(MINILM_PACKAGE) is None, reason="the [demo] extra with MiniLM's weights is absent"
)
def test_two_thousand_numbers_fine_tune_minilm_above_the_majority_class(tmp_path, capsys):
    words = [
        "run", "task=pydoc-topic", "model=minilm", "d=2000", "data.max_train=1000", "data.max_eval=400",
        "data.max_length=32", "train.epochs=2", "train.batch_size=16", "train.precision=fp32",
    ]  # fmt: skip
    assert cli.main([*words, f"output_dir={tmp_path}"]) == 0
    [path] = tmp_path.rglob("result.json")
    result = json.loads(path.read_text())
    majority, n = result["chance"], result["n_eval"]
    assert n == 400
    assert result["D"] > 22e6 > 2000 == result["d"]
    # Guessing the majority class on other rows scatters by this much; five of them are no chance.
    noise = math.sqrt(majority * (1 - majority) / n)
    assert 0.2 < majority < 0.4
    assert result["score"] > majority + 5 * noise
    assert capsys.readouterr().out.startswith(f"accuracy {result['score']:.4f}\n")
