"""Settings in words."""

from intrinsic_cli.settings import differences, flat, natural


def test_keys_are_dotted_and_values_are_as_they_are_typed():
    tree = {"lr": 0.1, "task": {"text": ["a", "b"], "path": None, "more": {"on": True}}, "name": "sst2"}
    assert flat(tree) == {
        "lr": "0.1", "task.text": "[a, b]", "task.path": "null", "task.more.on": "true", "name": "sst2",
    }  # fmt: skip
    assert flat({"a": "données.csv", "b": ["ü"], "c": "{x}\\nA:", "d": "two\nlines"}) == {
        "a": "données.csv", "b": "[ü]", "c": "{x}\\nA:", "d": "two\\nlines",
    }  # fmt: skip
    assert flat({"model": {"fingerprint": "0123456789abcdef"}}) == {"model.fingerprint": "01234567"}


def test_what_differs_within_a_place_is_said_of_all_that_have_its_label():
    one, other = {"subspace.head": "trained", "seed": "0"}, {"subspace.head": "frozen", "seed": "0"}
    both = ["head=trained", "head=frozen"]
    assert differences([one, other], ["a", "a"], ["x", "x"]) == both
    assert differences([one, other, one], ["a", "a", "a"], ["x", "x", "y"]) == [*both, "head=trained"]
    assert differences([one, other], ["a", "a"], ["x", "y"]) == ["", ""]  # the place tells them apart
    assert differences([one, other], ["a", "b"], ["x", "x"]) == ["", ""]  # and so does the label
    assert differences([one, {"seed": "0"}], ["a", "a"], ["x", "x"]) == ["head=trained", ""]


def test_natural_order():
    assert sorted(["step100", "step20", "null", "x=0.1", "x=0.05"], key=natural) == [
        "null", "step20", "step100", "x=0.05", "x=0.1",
    ]  # fmt: skip
