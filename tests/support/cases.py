"""What any input must come to at the command line: success, or one line with the way out and status 2."""

import shutil
import warnings
from collections import Counter

from intrinsic_cli.cli import main as cli

LONGEST_LINE = 800


class Cases:
    """Calls `idim`, judges what comes of it, and counts. `output` is a folder that no refusal may leave behind."""

    def __init__(self, output, capsys):
        self.output, self.capsys = output, capsys
        self.counts = Counter()

    def __call__(self, *words):
        """Returns what was printed on stderr: "" for a success."""
        self.capsys.readouterr()
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("default")
            try:
                status = cli.main([*map(str, words)])
            except SystemExit as stop:  # argparse
                status = stop.code
        printed, said = self.capsys.readouterr()
        noise = [w for w in heard if issubclass(w.category, RuntimeWarning)]
        assert not noise, (words, str(noise[0].message))
        if status == 0:
            shutil.rmtree(self.output, ignore_errors=True)
            self.counts["success"] += 1
            return ""
        assert status == 2, (words, said)
        assert said.startswith("idim: "), (words, said)
        assert said.endswith("\n"), (words, said)
        assert said.count("\n") == 1, (words, said)
        assert said[:-1].isprintable(), (words, said)
        assert len(said) <= LONGEST_LINE, (words, said)
        assert printed == "", (words, printed)
        assert not self.output.exists(), (words, said)
        self.counts["refused"] += 1
        return said
