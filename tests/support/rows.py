"""Small data files."""

import json

CLASSES = {"calm": "a", "loud": "z"}


def sentences(n, offset=0):
    """n different rows of two classes that a byte model tells apart by one letter, the classes in turn."""
    rows = []
    for i in range(offset, offset + n):
        label = list(CLASSES)[i % 2]
        words = [CLASSES[label] * (1 + i // k % 3) for k in (2, 6, 18)]
        rows.append({"text": " ".join([*words, str(i)]), "label": label})
    return rows


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_task(folder, train, validation):
    """A folder of so many training and validation rows of the two classes, no row in both."""
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "train.jsonl", sentences(train))
    write_jsonl(folder / "validation.jsonl", sentences(validation, offset=1000))
    return folder
