"""Runs a study and writes its report: python experiments/run.py STUDY [--data-dir DIR] [--out DIR] [--threads N]

Records go to results/STUDY/ (or --out): each run's folder to runs/, which is not kept, then all of them to runs.jsonl
and Parquet (longread.records.compact). A run whose record is in either is skipped, a stopped one goes on where it was.
The tables are kept beside the records; the page with its figures goes to out/results/STUDY/ (or --out).
`--only` takes mechanisms, so that two calls can share a study between two processor cores.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
STUDIES = sorted(
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if "\ndef configs(" in path.read_text("utf-8")
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", nargs="+", metavar="ATTENTION")
    parser.add_argument("--seeds", nargs="+", type=int)
    given = parser.parse_args()

    from longread.cli.live import GridView
    from longread.errors import UserError
    from longread.records.compact import compact
    from longread.report import build_report, summary_table
    from longread.study.compare import check, run_all

    out = given.out or ROOT / "results" / given.study.replace("_", "-")
    study = importlib.import_module(f"experiments.{given.study}")
    own = getattr(study, "run", None)  # a study that does something else than training
    configs = [
        replace(config, out=out, data_dir=given.data_dir, threads=given.threads or config.threads)
        for config in study.configs()
        if (not given.only or config.attention in given.only) and (not given.seeds or config.seed in given.seeds)
    ]
    if not configs:
        print(f"experiments: {given.study} has no run for what --only and --seeds ask", file=sys.stderr)
        return 2
    try:
        check(configs)
        with GridView(configs) as view:
            if own:
                finished = [own(config, partial(view.on_event, index)) for index, config in enumerate(configs)]
            else:
                finished = run_all(configs, view.on_event)
        compact(out)
    except UserError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 2
    print(summary_table(finished), file=sys.stderr)
    build_report(out, figures=False)
    page = build_report(out, given.out or ROOT / "out" / "results" / out.name)
    print(f"report: {page}", file=sys.stderr)
    return 0 if all(run.record["status"] == "ok" for run in finished) else 1


if __name__ == "__main__":
    sys.exit(main())
