"""Options that several commands share: the settings of a run, and those of every mechanism."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cyclopts import Group, Parameter
from docstring_parser import parse

from longread.attention import ATTENTIONS
from longread.cli.places import check_folder
from longread.config import BASELINE_CHOICES, BASELINE_SETTINGS, BASELINES, SCRATCH_SETTINGS, RunConfig
from longread.data.config import Cut
from longread.errors import UserError, option_name
from longread.settings import MachineSettings, ModelSettings, RowSettings, Settings, TrainingSettings

ALL = [name for name, mechanism in ATTENTIONS.items() if mechanism.stands_alone]
Several = Parameter(consume_multiple=1)
JsonLines = Annotated[bool, Parameter(name="--json")]


def panel(title: str, place: int) -> Parameter:
    """The fields of a dataclass as options of their own, together in one part of `--help`."""
    return Parameter(name="*", group=Group(title, sort_key=place))


OfRows = Annotated[RowSettings, panel("Texts", 1)]
OfModel = Annotated[ModelSettings, panel("Model", 2)]
OfTraining = Annotated[TrainingSettings, panel("Training", 4)]
OfMachine = Annotated[MachineSettings, panel("Machine", 5)]


@dataclass(frozen=True, kw_only=True)
class Computing:
    """Where a finished model computes, and how precisely.

    Parameters
    ----------
    device:
        Where to compute: auto (a GPU where there is one), cpu, cuda, cuda:N or mps.
    precision:
        Of the computation; auto is bfloat16 where it is faster (processor and width of the model decide). int8, on a
        processor: the linear layers alone, their weights rounded as they are read.
    """

    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16", "int8"] = "float32"


OfComputing = Annotated[Computing, panel("Machine", 5)]
COMPUTING = Computing()
OfLongTexts = Annotated[Cut, panel("Long texts", 2)]
ROWS, MODEL, TRAINING, MACHINE = RowSettings(), ModelSettings(), TrainingSettings(), MachineSettings()
CUT = Cut()
DEFAULTS = Settings()
USED_BY_ALL = ("data_dir", "out", "threads", "device")


def mechanism_options(*, with_defaults: bool = True) -> type:
    """A dataclass of every mechanism's settings, None where one is not given; each an option under its name.

    with_defaults: the help says what a setting is then.
    """
    fields: dict[str, tuple[str, Any, Any]] = {}
    for mechanism in ATTENTIONS.values():
        hints = get_type_hints(mechanism.Options, include_extras=True)
        group = Group(f"{mechanism.title} attention", sort_key=3)
        for field in dataclasses.fields(mechanism.Options):
            hint = Annotated[_one_value(hints[field.name]) | None, Parameter(group=group)]  # type: ignore[valid-type]
            told = field.metadata.get("help", "") + (_default_of(field) if with_defaults else "")
            described = dataclasses.field(default=None, metadata={**field.metadata, "help": told})
            fields.setdefault(field.name, (field.name, hint, described))
    return dataclasses.make_dataclass(
        "MechanismOptions", fields.values(), frozen=True, kw_only=True, namespace={"__module__": __name__}
    )


def _default_of(field: dataclasses.Field[Any]) -> str:
    """What the help says of a mechanism's setting that is not given; of a switch nothing."""
    if field.default is None or isinstance(field.default, bool) or "Default" in field.metadata.get("help", ""):
        return ""
    own = "" if field.metadata.get("from_scratch") else ", unless a generated task or the checkpoint has its own"
    return f" Default {field.default}{own}."


def part_of_settings(name: str, *fields: str, **own_help: str) -> type:
    """A dataclass of some fields of a run's settings, None where one is not given.

    Types and help are theirs, with the default; or the help that is given here, as it is.
    """
    hints = get_type_hints(Settings, include_extras=True)
    described = {n: text for kind in Settings.__mro__ for n, text in _described(kind).items()}
    for field in dataclasses.fields(Settings):
        if field.default is not None:
            described[field.name] += f" Default: {field.default}."
    parts = [
        (n, hints[n] | None, dataclasses.field(default=None, metadata={"help": own_help.get(n, described[n])}))
        for n in fields
    ]
    return dataclasses.make_dataclass(name, parts, frozen=True, kw_only=True, namespace={"__module__": __name__})


def _described(kind: type) -> dict[str, str]:
    """What a dataclass says of its fields."""
    return {part.arg_name: part.description or "" for part in parse(vars(kind).get("__doc__") or "").params}


def _one_value(hint: Any) -> Any:
    """The annotation without what the shell cannot say (one value for each layer)."""
    if get_origin(hint) in (Union, types.UnionType):
        return Union[tuple(part for part in get_args(hint) if get_origin(part) is not tuple)]  # noqa: UP007
    return hint


if TYPE_CHECKING:
    from longread.inference.predictor import Predictor

    MechanismOptions = Any
    MeasuredOptions = Any
else:
    MechanismOptions = mechanism_options()
    MeasuredOptions = mechanism_options(with_defaults=False)  # of `benchmark`, which has the papers' sizes
OfMechanisms = Annotated[MechanismOptions, Parameter(name="*")]
OfMeasured = Annotated[MeasuredOptions, Parameter(name="*")]
NONE_GIVEN: Any = MechanismOptions()
NONE_MEASURED: Any = MeasuredOptions()


def given_options(options: Any) -> dict[str, Any]:
    """The fields of a dataclass of options that are not as they are by default."""
    own = {field.name: (getattr(options, field.name), field.default) for field in dataclasses.fields(options)}
    return {name: value for name, (value, default) in own.items() if value != default}


def run_config(*settings: Any, options: Any = NONE_GIVEN, **others: Any) -> RunConfig:
    """One configuration of what was given: the parts of the settings, the mechanisms' options, single fields."""
    values = {name: value for part in settings for name, value in vars(part).items()}
    config = RunConfig(**values, **others, options=given_options(options))
    check_folder(config.out)
    if "task" in others:
        check_data_dir(config.data_dir, [config.task])
    return config


def check_data_dir(data_dir: Path | None, tasks: Sequence[str]) -> None:
    """UserError for a directory of public tasks where none of them is read.

    LONGREAD_DATA_DIR may name one all the same, for other runs; generated tasks leave it alone.
    """
    from longread.data.tasks import TASKS, find_task

    asked = [find_task(name) for name in tasks] if data_dir is not None else []
    if asked and all(task.hub_id is None and task.generate is None for task in asked):
        public = ", ".join(name for name, task in TASKS.items() if task.hub_id)
        raise UserError(f"--data-dir {data_dir}: only for {public}; leave it out")


def asked_to_read(predictor: Predictor, cut: Cut) -> Predictor:
    """The same; of long texts it reads what is asked for, if anything is, else what it was trained to read."""
    return predictor if cut.truncation is None else dataclasses.replace(predictor, cut=cut)


def refuse_unused(config: RunConfig, attentions: Sequence[str], depths: Sequence[int] = (1,)) -> None:
    """UserError for an option that none of the runs would use, so that nobody believes that it did something."""
    changed = [name for name in Settings.__dataclass_fields__ if getattr(config, name) != getattr(DEFAULTS, name)]
    changed += ["num_hidden_layers"] if tuple(depths) != (1,) else []
    if all(name in BASELINES for name in attentions):
        unused = [
            n for n in (*changed, *config.options) if n not in (*BASELINE_SETTINGS, *BASELINE_CHOICES, *USED_BY_ALL)
        ]
        why = f"{' and '.join(attentions)} has no such setting"
    elif config.init != "scratch":
        unused, why = [n for n in changed if n in SCRATCH_SETTINGS], "only from scratch; --init brings its own"
    else:
        return
    if unused:
        raise UserError(f"{option_name(unused[0])}: {why}")
