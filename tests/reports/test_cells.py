"""How a d90 is written."""

from __future__ import annotations

import pytest
from support.curves import estimated

from intrinsic_cli.reports.cells import cell


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "200 [150, 260]"),
        ({"low": None, "high": None}, "200"),
        ({"low": None, "low_open": True}, "200 [≤ 100, 260]"),
        ({"high": None, "high_open": True}, "200 [150, > 400]"),
        ({"full_runs": 2}, "200* [150, 260]"),
        ({"status": "undefined"}, "—"),
        (
            {"status": "below_grid", "d_t": None, "low": None, "low_open": True, "target": 0.5},
            "≤ 100 [≤ 100, 260]",
        ),
        (
            {"status": "below_grid", "d_t": None, "low": None, "low_open": True, "high": 100, "target": 0.5},
            "≤ 100",
        ),
        (
            {"status": "above_grid", "d_t": None, "high": None, "high_open": True, "target": 0.9},
            "> 400 [150, > 400]",
        ),
        (
            {"status": "above_grid", "d_t": None, "low": 400, "high": None, "high_open": True, "target": 0.9},
            "> 400",
        ),
    ],
)
def test_cell(changes, shown):
    assert cell(estimated(**changes)) == shown
