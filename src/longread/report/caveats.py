"""What a reader must know before quoting a number of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from longread.report import numbers as say
from longread.report.grouping import is_loaded
from longread.report.groups import Group
from longread.report.pairs import Pairs, mean_accuracy
from longread.report.tables import STATUS

# Published weights by a part of their name, and what their model cards say they were trained on, by the task that was
# made from it.
SENTENCE_PAIRS = {"qqp": "Quora's duplicate questions", "qnli": "SQuAD's questions"}
TRAINED_ON = {"all-mpnet-base-v2": SENTENCE_PAIRS, "all-minilm-l6-v2": SENTENCE_PAIRS}


def caveats(group: Group, pairs: Pairs) -> list[str]:
    """All of them, the gravest first."""
    return [*of_any_problem(group), *losses(group, pairs), *disagreements(group)]


def of_any_problem(group: Group) -> list[str]:
    """Those that do not ask what accuracy is."""
    found = []
    for line in group.lines:
        for run in line.failures:
            status = STATUS.get(str(run.record.get("status")), str(run.record.get("status")))
            found.append(f"{line.name()}, seed {run.record.get('seed')}: {status}. It is a row of the table.")
    learned = [line for line in group.done if not line.is_baseline]
    for count, words in ((1, "One draw"), (2, "Two draws")):
        few = [line for line in learned if len(set(line.draws)) == count]
        if few:
            names = "" if len(few) == len(learned) else f" of {say.listing(line.name() for line in few)}"
            end = " to it" if len(few) == 1 and names else " to them" if names else ""
            found.append(
                f"{words} only{names}: a difference{end} may hold over these rows; another training may end otherwise."
            )
    loaded = [run for run in group.runs if is_loaded(run)]
    if loaded:
        text = f"{say.plural(len(loaded), 'run')} shared the machine with other work"
        marked = listed([line.name() for line in group.done if line.timed_under_load], group)
        text += f"; the times of {marked} are marked † and are not to be quoted" if marked else ""
        idle = any(not line.timed_under_load and any(o.loaded for o in line.outcomes) for line in group.done)
        found.append(text + ("; where a row has idle runs too, its times come from those alone." if idle else "."))
    untrained = [
        line.name() for line in group.done if any(o.run.record.get("head_is_untrained") for o in line.outcomes)
    ]
    if untrained:
        found.append(f"Untrained head ({say.listing(untrained)}): the time is the result, the accuracy means nothing.")
    found += seen_before(group)
    found += truncation(group)
    return found + lower_precision(group)


def seen_before(group: Group) -> list[str]:
    """Pretrained weights that have met the texts of the task."""
    inits = {str(run.record.get("init") or "") for run in group.runs}
    found = []
    for init in sorted(inits):
        name = init.lower().replace("_", "-")
        of_task = next((texts.get(group.task) for part, texts in TRAINED_ON.items() if part in name), None)
        if of_task:
            found.append(f"{group.task.upper()} is made of {of_task}, on which the weights of {init} were trained.")
    return found


def truncation(group: Group) -> list[str]:
    by_text: dict[str, list[str]] = {}
    for line in group.done:
        fractions = [say.finite(o.run.record.get("truncated_fraction")) or 0.0 for o in line.outcomes]
        if max(fractions) > 0:
            limit = (line.outcomes[0].run.record.get("config") or {}).get("max_length")
            share = f"{100 * max(fractions):.1f}" if max(fractions) >= 0.0005 else "< 0.1"
            text = f"{share} % of the texts were cut" + (f" at {limit:,} tokens" if isinstance(limit, int) else "")
            by_text.setdefault(text, []).append(line.name())
    return [f"{text} ({listed(names, group)})." for text, names in by_text.items()]


def lower_precision(group: Group) -> list[str]:
    """Answers that were computed with fewer bits than float32 has, by the precision."""
    by_precision: dict[str, list[str]] = {}
    for line in group.done:
        for precision in sorted({precision_of(o.run.record) for o in line.outcomes} - {"float32"}):
            by_precision.setdefault(precision, []).append(line.name())
    end = "Some answers may differ from float32's, and the times do."
    return [f"Evaluated in {name}: {listed(lines, group)}. {end}" for name, lines in by_precision.items()]


def precision_of(record: Mapping[str, Any]) -> str:
    """In which the answers were computed: of a training, that of its evaluations."""
    if record.get("kind") == "evaluate":
        return str((record.get("environment") or {}).get("precision") or "float32")
    return str((record.get("config") or {}).get("eval_precision") or "float32")


def listed(names: Sequence[str], group: Group) -> str:
    """The names, or that it is all of many."""
    return "all rows" if len(names) == len(group.done) > 3 else say.listing(names)


def losses(group: Group, pairs: Pairs) -> list[str]:
    """Transformers from scratch under a linear model: the fact that such tables like to leave out."""
    linear = [line for line in group.done if line.is_baseline]
    if not linear:
        return []
    best = max(linear, key=mean_accuracy)
    below: list[str] = []
    sure: list[str] = []
    for line in group.done:
        scratch = all(o.run.record.get("init") == "scratch" for o in line.outcomes)
        if scratch and not line.is_baseline and mean_accuracy(line) < mean_accuracy(best):
            tested = pairs.of(line, best)
            below.append(f"{line.name()} ({say.percent(mean_accuracy(line))} %)")
            if tested and tested.significant:
                sure.append(line.name())
    if not below:
        return []
    who = "This transformer from scratch loses" if len(below) == 1 else "These transformers from scratch lose"
    reached = say.percent(mean_accuracy(best))
    end = "Each is significant." if len(sure) == len(below) else f"Significant: {say.listing(sure) or 'none'}."
    return [f"{who} to a linear model ({best.name()}, {reached} %): {'; '.join(below)}. {end}"]


def disagreements(group: Group) -> list[str]:
    """A record whose stated accuracy is not what its predictions give is damaged or was edited."""
    found = []
    for line in group.done:
        for o in line.outcomes:
            stated = say.finite((o.run.record.get("metrics") or {}).get("accuracy"))
            if o.correct is not None and stated is not None and abs(stated - o.accuracy) > 1e-6:
                found.append(
                    f"{line.name()}, seed {o.run.record.get('seed')}: the record states an accuracy of "
                    f"{100 * stated:.3f} %, its predictions give {100 * o.accuracy:.3f} %; the table uses the latter."
                )
    return found
