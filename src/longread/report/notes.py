"""What stands under a comparison: what its numbers are, what is missing beside them, and what came before them."""

from __future__ import annotations

import statistics as plain

from longread.problems import MULTI_LABEL, REGRESSION
from longread.report import numbers as say
from longread.report.groups import Group, Line
from longread.report.measures import AT_LEAST, LOADED, has_ancestors, partly_unknown

MEMORY_KINDS = {
    "rss_above_program": "resident memory above the loaded program",
    "cuda_allocated": "memory allocated on the GPU",
}


def comparison_notes(group: Group, best: Line | None) -> tuple[str, ...]:
    shares = [] if group.problem_type == REGRESSION else interval_notes(group)
    notes = [*shares, *missing_beside(group)]
    if group.problem_type == MULTI_LABEL:
        notes.insert(0, "Exact match: the share of rows of which every label is right.")
    if group.fields:
        varied = say.listing(name.replace("_", " ") for name in group.fields)
        notes.append(f"Beside the mechanism these vary: {varied}. Each has its own column among all columns.")
    if shares:
        notes.append("Every number but the interval is the mean over the runs (on the page: hover for each).")
    if any(0 < len(line.quiet) < len(line.outcomes) for line in group.done):
        notes.append("Times are means over the seeds that had the machine to themselves, where there are any.")
    if best is None and len(group.done) > 1 and shares:
        notes.append(f"No {group.measure} is bold: the first is not shown to differ from all the others.")
    if any(line.trained_under_load for line in group.done):
        before = any(line.trained_under_load and not line.timed_under_load for line in group.done)
        these = "these, or what they began from," if before else "these"
        notes.append(f"{LOADED} The machine had other work while {these} ran: not times to quote.")
    kinds = {str(r.record.get("memory_kind")) for r in group.runs if r.record.get("memory_kind")}
    if kinds:
        notes.append(f"Peak memory: {say.listing(MEMORY_KINDS.get(k, k) for k in sorted(kinds))}.")
    notes += [*training_notes(group), *projections(group), *distillations(group)]
    if any(line.is_baseline for line in group.done):
        notes.append("Parameters of the linear models: features used.")
    return tuple(notes)


def interval_notes(group: Group) -> list[str]:
    notes = []
    over = {len(set(line.draws)) > 1 for line in group.done}
    if True in over:
        notes.append(
            "Interval over rows and draws: Wilson's for the rows and Student's t for the independent draws, added in "
            "squares (MOVER, Zou and Donner 2008)."
        )
    if False in over:
        notes.append("Interval over rows: one draw only, Wilson's interval; it knows nothing of another training.")
    if any(len(set(line.draws)) < len(line.outcomes) for line in group.done):
        notes.append("Runs that share a teacher, a distillation or trained first weights are one draw together.")
    return notes


def missing_beside(group: Group) -> list[str]:
    """The linear models and the control, dense attention at the same length, where no record has them."""
    notes = []
    if group.done and not any(line.is_baseline for line in group.done):
        notes.append("No linear baseline on these rows.")
    lengths = {length_of(line) for line in group.done if line.attention == "dense"}
    alone: dict[int | None, list[str]] = {}
    for line in group.done:
        if not line.is_baseline and line.attention != "dense" and length_of(line) not in lengths:
            alone.setdefault(length_of(line), []).append(line.title())
    for length, names in alone.items():
        at = f" at {length:,} tokens" if length is not None and lengths else ""
        notes.append(f"No control: dense was not run{at} on these rows ({say.listing(dict.fromkeys(names))}).")
    return notes


def length_of(line: Line) -> int | None:
    """Tokens at which the texts of a line are cut."""
    record = line.outcomes[0].run.record
    for part in (record.get("config"), record.get("encoder")):
        length = (part or {}).get("max_length")
        if isinstance(length, int):
            return length
    return None


def training_notes(group: Group) -> list[str]:
    if not has_ancestors(group):
        return []
    text = "Training incl. teacher: with the seconds of the teacher, the distillation and earlier stages."
    if any(partly_unknown(o) for line in group.done for o in line.outcomes):
        text += f" {AT_LEAST.strip()}: the training of the weights that it began with is not in the records."
    return [text]


def projections(group: Group) -> list[str]:
    """What a whole split would take, where a model was run on a sample of it without any training."""
    found = []
    for line in group.done:
        seen = (line.outcomes[0].run.record.get("dataset") or {}).get("eval") or {}
        rows, whole = seen.get("rows"), seen.get("rows_of_split")
        times = [say.finite(o.run.record.get("eval_seconds")) for o in line.outcomes]
        known = [seconds for seconds in times if seconds is not None]
        if rows and whole and rows < whole and known and line.outcomes[0].run.record.get("kind") == "evaluate":
            mark = LOADED if line.timed_under_load else ""
            text = f"{line.name()} ran on {rows:,} of {whole:,} rows; projected, not measured, for all"
            found.append(f"{text}: {say.seconds(plain.fmean(known) * whole / rows)}{mark} of inference.")
    return found


def distillations(group: Group) -> list[str]:
    """How near its distillation brought a line to the teacher (longread convert --distill-task)."""
    found = []
    for line in group.done:
        conversion = line.outcomes[0].run.record.get("conversion") or {}
        done = conversion.get("distillation")
        if not done:
            continue
        if not done["rows_seen"]:
            found.append(
                f"{line.name()} was not distilled: the new attention covers the texts of {done['task']} whole."
            )
            continue
        before, after = (say.significant(done[f"distance_{when}"], 2) for when in ("before", "after"))
        spent = f"{done['rows_seen']:,} texts of {done['task']} in {say.seconds(done['seconds'])}"
        undone = "" if done.get("kept", True) else "; undone, it did no good"
        found.append(f"{line.name()} was distilled first, {spent}: distance from dense {before}, then {after}{undone}.")
    if any("distance" in text for text in found):
        found.append("Distance: squared difference of the hidden states over the teacher's variance, held-out texts.")
    return found
