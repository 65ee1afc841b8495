"""Split a file of phrases into two halves of its sentences: a folder in which one trains and the other validates.

    python scripts/sentence_halves.py ../shared/glue/sst2/train-00000-of-00001.parquet outputs/halves
    idim run task=sst2 task.path=outputs/halves task.config=null d=1000

Rows that could be phrases of sentences in both halves are in neither. Columns: `sentence` and `label`.
"""

import json
import sys
from pathlib import Path

from datasets import load_dataset

from intrinsic_cli.bounds.groups import halves


def main(source: str, folder: str) -> None:
    rows = load_dataset("parquet", data_files=source, split="train")
    texts, labels = rows["sentence"], rows["label"]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, half in zip(("train", "validation"), halves(texts), strict=True):
        lines = [json.dumps({"sentence": texts[i], "label": labels[i]}) for i in half]
        (Path(folder) / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(half):,} rows")


if __name__ == "__main__":
    main(*sys.argv[1:])
