"""The report as plain data: what it says, in which order. Markdown and the page are two prints of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from longread.report import numbers as say
from longread.report.calibration import reliability_pictures
from longread.report.caveats import caveats, of_any_problem
from longread.report.cells import Table
from longread.report.crossings import crossing_table
from longread.report.curves import curve_pictures
from longread.report.figures import STYLE, Picture
from longread.report.goals import Goal
from longread.report.grouping import eval_part, group_runs, regression_groups, settings_of
from longread.report.groups import Group, setting_text, title_of_run
from longread.report.heatmaps import map_pictures
from longread.report.lengths import Bench, benches, cost_table
from longread.report.mechanisms import learn, rank
from longread.report.naming import heading
from longread.report.overview import by_task, in_order
from longread.report.pairs import Pairs, compare_lines, matrix_table, mean_accuracy, pair_table
from longread.report.pretraining import pretraining_table
from longread.report.quality import class_table, confusion_table, length_table, records_of
from longread.report.recommend import recommendation
from longread.report.regression import regression_table
from longread.report.runcards import RunCard, run_cards
from longread.report.scaling import scaling_pictures
from longread.report.search import search_pictures, search_table
from longread.report.tables import all_columns, comparison
from longread.report.three import three_table
from longread.report.tradeoff import tradeoff_pictures
from longread.report.verdicts import Elsewhere, goal_table, judge, summary

if TYPE_CHECKING:
    from longread.records import Run

BY_TASK = "Accuracy by task"  # the documents take this table where there is one


@dataclass(frozen=True)
class Block:
    """A heading with a table or figures under it; `fold` hides a long one behind a click."""

    title: str
    table: Table | None = None
    pictures: Sequence[Picture] = ()
    text: str = ""
    small: bool = False  # small multiples
    fold: bool = False


@dataclass
class Section:
    key: str
    title: str
    lead: str
    warnings: list[str] = field(default_factory=list)
    recommendation: str = ""
    blocks: list[Block] = field(default_factory=list)

    @property
    def first(self) -> list[Block]:
        """What the page shows before any explanation: the comparison and, folded, all of its columns."""
        return self.blocks[:2] if self.recommendation else []


@dataclass(frozen=True)
class Report:
    title: str
    lead: str
    sections: Sequence[Section]
    cards: Sequence[RunCard]
    environments: Sequence[str]
    command: str = "longread report DIR"  # what makes it again

    @property
    def pictures(self) -> list[Picture]:
        return [p for section in self.sections for block in section.blocks for p in block.pictures]


def make_report(
    runs: Sequence[Run],
    damaged: Sequence[str] = (),
    goals: Sequence[Goal] = (),
    elsewhere: Elsewhere = lambda study: (),
    *,
    figures: bool = True,
    search: tuple[Mapping[str, Any], str] | None = None,
) -> Report:
    """Everything the report says, figures included; the same records give the same report.

    damaged: where and why, of every run that could not be read and is left out. goals: what this study should reach;
    `elsewhere` gives the groups of another study, which a goal may compare with. search: what `longread tune` tried,
    and what it came to in words.
    """
    import matplotlib

    learn(runs)
    with matplotlib.rc_context(STYLE):
        groups = in_order(group_runs(runs))
        sections = [
            task_section(group, pairs, figures) for group, pairs in zip(groups, compare_lines(groups), strict=True)
        ]
        numbers = in_order(regression_groups(runs))
        sections += [regression_section(group, figures) for group in numbers]
        table = by_task(groups)
        if table is not None:
            lead = "The mean accuracy on each task; the sections below have everything else."
            sections.insert(0, Section("tasks", "All tasks", lead, blocks=[Block(BY_TASK, table)]))
        if goals:
            verdicts = judge(goals, groups, elsewhere)
            sections.append(Section("goals", "Goals", summary(verdicts), blocks=[Block("", goal_table(verdicts))]))
        if (pretrained := pretraining_table(runs)) is not None:
            lead = "Encoders that learned to guess masked tokens, without labels."
            sections.append(Section("pretraining", "Pretraining", lead, blocks=[Block("", pretrained)]))
        if search is not None:
            sections.append(search_section(*search, figures))
        sections += [bench_section(bench, figures) for bench in benches(runs)]
    tasks = list(dict.fromkeys(group.task for group in [*groups, *numbers]))
    title = f"longread: {say.listing(tasks)}" if tasks else "longread: time and memory by length"
    return Report(
        title, overall_lead(runs, tasks, damaged), sections, run_cards(runs, [*groups, *numbers]), environments(runs)
    )


def overall_lead(runs: Sequence[Run], tasks: Sequence[str], damaged: Sequence[str]) -> str:
    mechanisms = names_of(run for run in runs)
    failed = sum(run.record.get("status") != "ok" for run in runs)
    about = f" on {say.listing(tasks)}" if tasks else ""
    text = f"{say.plural(len(runs), 'run')}{about}: {say.listing(mechanisms)}."
    if failed:
        text += f" {say.plural(failed, 'run')} did not end well and stand{'s' if failed == 1 else ''} in the tables."
    if damaged:
        text += f" Left out, because damaged: {'; '.join(damaged)}."
    return text + " Every number below is computed from the run records beside this page."


def names_of(runs: Iterable[Run]) -> list[str]:
    found = sorted(runs, key=lambda run: rank(str(run.record.get("attention"))))
    return list(dict.fromkeys(title_of_run(run.record) for run in found))


def task_section(group: Group, pairs: Pairs, figures: bool) -> Section:
    section = Section(group.key, heading(group), lead(group, pairs), caveats(group, pairs), recommendation(group))
    section.blocks.append(Block("Comparison", comparison(group, pairs)))
    section.blocks.append(Block("All columns", all_columns(group, pairs), fold=True))
    three = three_table(group)
    if three is not None:
        section.blocks.append(Block("Three to choose from", three))
    if pairs.tested:
        matrix = matrix_table(pairs)
        if matrix is not None:
            section.blocks.append(Block("Which differences are significant", matrix))
        title = "Paired tests" if matrix is not None else "Which differences are significant"
        section.blocks.append(Block(title, pair_table(pairs), fold=matrix is not None))
    section.blocks += quality_blocks(group)
    if not figures:
        return section
    pictures = reliability_pictures(group)
    if pictures:
        section.blocks.append(Block("Calibration", pictures=pictures))
    pictures = tradeoff_pictures(group)
    if pictures:
        section.blocks.append(Block(f"{group.measure.capitalize()} against time", pictures=pictures))
    pictures = curve_pictures(group)
    if pictures:
        section.blocks.append(Block("Learning curves", pictures=pictures))
    pictures = map_pictures(group)
    if pictures:
        text = "Row by row, where one text's tokens look. Each picture has its own range of colours: its caption tells."
        section.blocks.append(Block("Where the tokens look", pictures=pictures, text=text, small=True))
    return section


def regression_section(group: Group, figures: bool) -> Section:
    section = Section(
        group.key, heading(group), f"{about(group)} A number is predicted for each text.", of_any_problem(group)
    )
    section.blocks.append(Block("Comparison", regression_table(group)))
    section.blocks += quality_blocks(group)
    if figures and (pictures := curve_pictures(group)):
        section.blocks.append(Block("Learning curves", pictures=pictures))
    return section


def quality_blocks(group: Group) -> list[Block]:
    """Class by class, confusions and by length: what a person looks at who means to use one of the models."""
    named = records_of(group)
    tables = (
        ("Class by class", class_table(named)),
        ("Confusion matrix", confusion_table(named)),
        ("By length of the text", length_table(named)),
    )
    return [Block(title, table, fold=True) for title, table in tables if table is not None]


def about(group: Group) -> str:
    """What was compared, on how many rows, with which seeds, where."""
    runs = group.runs
    linear = [line for line in group.lines if line.is_baseline]
    mechanisms = {line.attention for line in group.lines if not line.is_baseline}
    parts = []
    if mechanisms:
        parts.append(say.plural(len(mechanisms), "attention mechanism"))
    if linear:
        parts.append(say.plural(len({line.attention for line in linear}), "linear baseline"))
    text = f"{say.listing(parts)} on {group.task}".strip()
    rows = sorted({int(eval_part(run)["rows"]) for run in runs if eval_part(run).get("rows")})
    train = sorted({v for v in (settings_of(run).get("train_rows") for run in runs) if v})
    text += f", evaluated on {say.listing(f'{n:,}' for n in rows)} rows" if rows else ""
    text += f" after training on {say.listing(f'{n:,}' for n in train)}" if train else ""
    seeds = sorted({int(run.record.get("seed") or 0) for run in runs if run.record.get("attention") in mechanisms})
    if seeds:
        text += f"; seed{'s' if len(seeds) > 1 else ''} {say.listing(seeds)}"
    varied = [name.replace("_", " ").replace("num hidden layers", "depth") for name in group.fields]
    text += f"; what varies beside the mechanism: {say.listing(varied)}" if varied else ""
    inits = {run.record.get("init") for run in runs if run.record.get("attention") in mechanisms}
    if len(inits) == 1 and None not in inits:
        text += f"; {setting_text('init', inits.pop())}"
    return text + (f". Ran on {say.listing(places(runs))}." if places(runs) else ".")


def lead(group: Group, pairs: Pairs) -> str:
    """What was compared, then what may be said of it."""
    text, done = about(group), group.done
    if len(done) > 1:
        best = max(done, key=mean_accuracy)
        value = say.percent(mean_accuracy(best), 2 if best.outcomes[0].evaluated >= 2000 else 1)
        text += f" Highest mean {group.measure}: {best.name()}, {value} %"
        against = [(line, pairs.of(best, line)) for line in done if line is not best]
        equal = [line.name() for line, pair in against if pair is None or not (pair.significant or pair.over_rows)]
        once = [line.name() for line, pair in against if pair is not None and pair.over_rows]
        if not equal and not once:
            text += "; its lead over every other row is significant."
            return text
        if once:
            count = "one training" if best.draws and len(set(best.draws)) == 1 else "few trainings"
            text += f"; its lead over {named(once)} is significant over these rows, and rests on {count}"
        if equal:
            text += f"; its lead over {named(equal)} is not shown to be significant"
        text += "."
    return text


def named(lines: Sequence[str]) -> str:
    return say.listing(lines) if len(lines) <= 3 else say.plural(len(lines), "other row")


def places(runs: Sequence[Run]) -> list[str]:
    found = set()
    for run in runs:
        e = run.record.get("environment") or {}
        if e.get("device"):
            more = [str(e["processor"])] if e.get("processor") else []
            more += [say.plural(e["threads"], "thread")] if e.get("threads") else []
            found.add(f"{e['device']}" + (f" ({', '.join(more)})" if more else ""))
    return sorted(found)


def bench_section(bench: Bench, figures: bool) -> Section:
    names = say.listing(series.name for series in bench.series)
    section = Section(bench.key, bench.title, f"{names}, the same input for all; {bench.settings}.")
    for run in bench.failures:
        status = str(run.record.get("status")).replace("_", " ")
        section.warnings.append(f"{say.listing(names_of([run]))}: {status} while measuring.")
    loaded = [s.name for s in bench.series if s.loaded]
    if loaded:
        section.warnings.append(f"The machine had other work: the times of {say.listing(loaded)} are not to be quoted.")
    if bench.dense is None:
        section.warnings.append("Dense was not measured: there is nothing to cross.")
    crossings = crossing_table(bench)
    if crossings is not None:
        section.blocks.append(Block("Where each overtakes dense", crossings))
    if figures:
        section.blocks.append(Block("Time and memory", pictures=scaling_pictures(bench)))
    for phase in bench.phases():
        noun = {"forward": "Forward pass", "training": "Training step", "mixing": "Mixing alone"}[phase]
        section.blocks.append(Block(f"{noun}, all lengths", cost_table(bench, phase), fold=True))
    return section


def search_section(found: Mapping[str, Any], verdict: str, figures: bool) -> Section:
    section = Section("search", "Search for settings", verdict, blocks=[Block("Trials", search_table(found))])
    if figures:
        section.blocks.append(Block("Scores by setting", pictures=search_pictures(found), small=True))
    return section


def environments(runs: Sequence[Run]) -> list[str]:
    """Each environment once, with the number of runs in it; loads differ by nature and stay out."""
    counts: dict[str, int] = {}
    for run in runs:
        parts = (run.record.get("environment") or {}).items()
        text = ", ".join(f"{k} {v}" for k, v in sorted(parts) if not k.startswith("load_at_") and v not in (None, ""))
        counts[text or "not recorded"] = counts.get(text or "not recorded", 0) + 1
    return [f"{text} ({say.plural(count, 'run')})" for text, count in sorted(counts.items())]
