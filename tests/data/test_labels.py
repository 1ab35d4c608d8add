"""Labels are read against names: those of the data set, of the training rows, or of a model."""

from __future__ import annotations

from typing import Any

import pytest

from longread.data.labels import placeholders, read_labels
from longread.data.sources import Table
from longread.errors import UserError

OWN = ("negative", "positive")


@pytest.mark.parametrize(
    ("values", "own", "known", "expected"),
    [
        (["b", "a", "b"], None, None, [1, 0, 1]),
        (["10", "9", "10"], None, None, [1, 0, 1]),  # numbers in the order of numbers
        (["a", "b"], None, ("b", "a"), [1, 0]),  # a model's order, not the alphabet's
        (["a", "a"], None, ("b", "a", "c"), [1, 1]),  # classes that the file lacks
        ([0, 1, "positive"], OWN, None, [0, 1, 1]),
        ([0, 1, "1"], OWN, ("positive", "negative"), [1, 0, 0]),  # the data set's numbers, the model's names
        ([0, 1], OWN, ("POSITIVE", "Negative"), [1, 0]),
        ([0, "1"], OWN, placeholders(2), [0, 1]),
        (["1", "LABEL_0", 1.0], None, placeholders(2), [1, 0, 1]),
        ([0, "2"], ("2", "1"), None, [0, 0]),  # a number in the file counts, a name is a name
    ],
)
def test_a_label_finds_its_class(values: list[Any], own: Any, known: Any, expected: list[int]) -> None:
    labels, names = read_labels(Table("t.csv", {"label": values}), "label", own, known)
    assert labels.tolist() == expected
    assert names == (own if known is None or known == placeholders(2) else known) or own is None


@pytest.mark.parametrize(
    ("values", "own", "known", "message"),
    [
        (["1", "0"], None, ("1", "2", "3"), "row 2: label '0' is not one of: 1, 2, 3"),
        (["Komödie", "komödie"], None, ("Drama", "Komödie"), "row 2: label 'komödie' is not one of: Drama, Komödie"),
        (["0"], None, ("neg", "pos"), "row 1: label '0' is not one of: neg, pos"),
        (["neg"], None, placeholders(2), "row 1: label 'neg' is not one of: LABEL_0, LABEL_1, 0, 1"),
        (["2"], None, placeholders(2), "row 1: label '2' is not one of"),
        (["w" * 900], None, ("neg", "pos"), "label 'w{56}[.]{3} is not one of: neg, pos; check --label-columns"),
        ([0], OWN, placeholders(3), "has 2 classes .negative, positive. and the model 3"),
        ([0, 1], OWN, ("negative", "neutral"), "row 2: label 'positive' is not one of: negative, neutral"),
        ([-1], OWN, None, "row 1: label '-1' is not one of: negative, positive; GLUE"),
    ],
)
def test_a_label_without_a_class_is_told_with_its_row(values: list[Any], own: Any, known: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_labels(Table("t.csv", {"label": values}), "label", own, known)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, "1", 1.0, True], "row 4: column 'label' holds true, and 1 in another row .t.csv, row 1"),
        ([None, False, "false"], "row 2: column 'label' holds false, and 'false' in another row .t.csv, row 3"),
    ],
)
def test_true_beside_other_values_is_refused(values: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_labels(Table("t.csv", {"label": values}), "label")
    assert read_labels(Table("t.csv", {"label": [True, False]}), "label")[1] == ("False", "True")
    assert read_labels(Table("t.csv", {"label": [1, "1", 1.0, 0]}), "label")[1] == ("0", "1")


@pytest.mark.parametrize(("values", "told"), [(["a;b", "a", "b", "a; c", "c"], True), (["a;b", "c"], False)])
def test_several_labels_in_a_cell_are_hinted_at(
    values: list[str], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    read_labels(Table("t.csv", {"label": values}), "label")
    assert ("holds labels such as 'a; c'; each of the 5 combinations of 3 labels" in caplog.text) is told


@pytest.mark.parametrize(("values", "told"), [(["spam", "Ham", "ham"], True), (["spam", "Ham"], False)])
def test_labels_that_differ_in_case_alone_are_hinted_at(
    values: list[str], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_labels(Table("t.csv", {"label": values}), "label")[1] == tuple(sorted(values))
    assert ("column 'label' holds 'Ham' and 'ham', which are two classes" in caplog.text) is told
