"""What a type checker makes of the public names."""

import pytest


def test_a_type_checker_knows_the_public_names(tmp_path):
    api = pytest.importorskip("mypy.api")
    (tmp_path / "use.py").write_text(
        "import intrinsic_cli\n"
        "reveal_type(intrinsic_cli.d90([(1, 0.5)], [0.8], chance=0.5).d_t)\n"
        "intrinsic_cli.d90([(1, 0.5)], [0.8], chance='no')\n"
        "intrinsic_cli.nothing\n"
    )
    words = [
        "--follow-imports=silent",
        "--ignore-missing-imports",
        f"--cache-dir={tmp_path}",
        "--config-file=",
    ]
    out, _, _ = api.run([*words, str(tmp_path / "use.py")])
    assert '"int | None"' in out
    assert 'Argument "chance" to "d90" has incompatible type "str"' in out
