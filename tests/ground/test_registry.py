"""Names and what they stand for; the hint at a name that is not known."""

import json

import pytest

from intrinsic_cli.errors import ConfigError, near
from intrinsic_cli.registry import Registry


def test_a_registry_imports_what_is_asked_for_and_names_what_is_near():
    known = Registry("coder", {"json": "json:dumps", "Pickle": "pickle", "csv": "csv"})
    assert known["json"] is json.dumps
    assert known["csv"].__name__ == "csv"
    assert list(known) == ["json", "Pickle", "csv"]
    assert ("csv" in known, "nix" in known) == (True, False)
    with pytest.raises(ConfigError, match="coder='pickel' is not known; did you mean Pickle"):
        known["pickel"]
    with pytest.raises(ConfigError, match="coder='zzz' is not known; use one of json, Pickle, csv"):
        known["zzz"]


def test_hints_ignore_case_and_never_give_the_word_itself():
    assert near("MRPC", ["mrpc", "rte"]) == "; did you mean mrpc?"
    assert near("mrpc", ["mrpc"]) == ""
    assert near("same", ["some", "some", "x"]) == "; did you mean some?"
