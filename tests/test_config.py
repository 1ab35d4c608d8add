"""Settings are checked in one place, however they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from longread.config import RunConfig
from longread.errors import UserError


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"schedule": "cosin"},
            "schedule is 'cosin'; it must be one of linear, cosine, constant; did you mean cosine?",
        ),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; it must be one of adamw, adam"),
        (
            {"precision": "bf16"},
            "precision is 'bf16'; it must be one of auto, float32, bfloat16, int8; did you mean bfloat16?",
        ),
        ({"epochs": 2.0}, "epochs is 2.0; it must be a whole number or None"),
        ({"epochs": True}, "epochs is True; it must be a whole number or None"),
        ({"epochs": 0}, "epochs is 0; it must be 1 or more"),
        ({"hidden_size": "64"}, "hidden_size is '64'; it must be a whole number"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be a number"),
        ({"learning_rate": 0}, "learning_rate is 0; it must be above 0"),
        ({"dropout": 1}, "dropout is 1; it must be at least 0 and below 1"),
        ({"selection_fraction": 1.0}, "selection_fraction is 1.0; it must be above 0 and below 1"),
        ({"lowercase": 1}, "lowercase is 1; it must be True or False"),
        ({"text_columns": "text"}, "text_columns is 'text'; it must be several, each text"),
        ({"attention": None}, "attention is None; it must be text"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_named_with_what_would_be_right(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as raised:
        RunConfig(**settings)
    assert str(raised.value).startswith(said)


def test_a_mechanisms_settings_stand_beside_the_others_or_in_options() -> None:
    flat = RunConfig(attention="longformer", attention_window=32, epochs=2)
    assert flat == RunConfig(attention="longformer", options={"attention_window": 32}, epochs=2)
    assert flat.named()["attention_window"] == 32
    assert "attention_window" not in RunConfig(attention_window=None).named()


def test_a_configuration_survives_json() -> None:
    config = RunConfig(
        attention="longformer", attention_window=(8, 16), out=Path("here"), data_dir="there", init=Path("some/model"),
        text_columns=["a", "b"],
    )  # fmt: skip
    assert RunConfig.from_json(config.to_json()) == config
    assert (config.data_dir, config.init, config.text_columns) == (Path("there"), "some/model", ("a", "b"))
