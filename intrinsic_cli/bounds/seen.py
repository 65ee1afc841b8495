"""What is known of base models' training: a bound holds for no model that has learned from the task's rows before.

`seen` are tasks of GLUE whose rows, labels or pairs made of them were trained on; texts read without labels
(Wikipedia behind QNLI, say) are not among them. A model that is not here is `unknown`, and so is a task beyond
GLUE to a model that was trained on labelled pairs.

A name may accuse and can't acquit: a folder or a stranger's copy named as a known model may have been fine-tuned
since. `no` is said of the hub's own model alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from intrinsic_cli.spec import ModelSpec, TaskSpec

Answer = Literal["yes", "no", "unknown"]
GLUE = frozenset({"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "ax"})


@dataclass(frozen=True)
class Training:
    """What models of the hub's `owner` with names like `pattern` were trained on, and the tasks of GLUE in it."""

    owner: str
    pattern: str
    source: str
    seen: frozenset[str] = frozenset()


KNOWN = (
    Training(
        "sentence-transformers",
        r"(all-)?minilm(-l\d+-v\d)?|all-mpnet-base-v\d|all-distilroberta-v\d",
        "1.17 billion pairs, with AllNLI (SNLI and MultiNLI), Quora duplicates and SQuAD 2.0 (its model card)",
        frozenset({"mnli", "ax", "qqp", "qnli"}),
    ),
    Training(
        "google-t5",
        r"t5-(small|base|large|3b|11b)",
        "C4, GLUE, SuperGLUE and other tasks (arXiv 1910.10683)",
        GLUE,
    ),
    Training("google", r"flan-t5-.*", "instructions made of GLUE and other tasks (arXiv 2210.11416)", GLUE),
    Training("google", r"t5-v1[._]1-.*", "C4 alone (its model card)"),
    Training(
        "google-bert",
        r"bert-(base|large)-(un)?cased(-whole-word-masking)?",
        "BooksCorpus, Wikipedia (arXiv 1810.04805)",
    ),
    Training("distilbert", r"distilbert-base-(un)?cased", "BooksCorpus, Wikipedia (arXiv 1910.01108)"),
    Training(
        "albert", r"albert-(base|large|xlarge|xxlarge)-v[12]", "BooksCorpus, Wikipedia (arXiv 1909.11942)"
    ),
    Training(
        "facebookai",
        r"roberta-(base|large)",
        "BookCorpus, Wikipedia, CC-News, OpenWebText, Stories (arXiv 1907.11692)",
    ),
    Training("distilbert", r"distilroberta-base", "OpenWebText (its model card)"),
    Training(
        "google", r"electra-(small|base|large)-(generator|discriminator)", "plain text (arXiv 2003.10555)"
    ),
    Training("facebook", r"bart-(base|large)", "the texts of RoBERTa (arXiv 1910.13461)"),
    Training("openai-community", r"gpt2(-medium|-large|-xl)?", "WebText (its model card)"),
    Training("", r"tiny", "nothing: idim draws it at random"),
)


def seen(model: ModelSpec, task: TaskSpec) -> tuple[Answer, str]:
    """Whether the base model has learned from the rows of `task`, and where that is known from.

    A model is accused by the last part of its name, and acquitted by all of it, owner and revision too.
    """
    whole = model.name.rstrip("/").lower()
    name = whole.rsplit("/", 1)[-1]
    names = {re.split(r"[^a-z0-9]", word.lower())[0] for word in (task.name, task.config or "")} & GLUE
    for known in KNOWN:
        if re.fullmatch(known.pattern, name):
            if names & known.seen:
                return "yes", known.source
            if whole not in (name, f"{known.owner}/{name}") or model.revision not in (None, "main"):
                return "unknown", f"it has the name of a model trained on {known.source}, and may be another"
            sure = bool(names) or not known.seen
            return ("no" if sure else "unknown"), known.source
    return "unknown", "nothing is known here of what it was trained on"
