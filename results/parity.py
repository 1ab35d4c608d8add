"""Table of results/parity: how far random models of every family are from transformers'."""

from __future__ import annotations

from typing import Any

from exported import record

from longread.report.cells import Cell, Column, Row, Table
from longread.report.markdown import markdown_table

TITLES = {"bert": "BERT", "roberta": "RoBERTa", "xlm-roberta": "XLM-RoBERTa", "camembert": "CamemBERT",
          "electra": "ELECTRA", "distilbert": "DistilBERT", "modernbert": "ModernBERT", "mpnet": "MPNet",
          "longformer": "Longformer", "big_bird": "BigBird"}  # fmt: skip
ERRORS = {"hidden_states": "Hidden states", "logits": "Logits", "gradients": "Gradients"}


def table(_: str) -> str:
    """A row a family: its models, and the largest error of each kind over them."""
    found = record("parity/families.json")
    families: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        families.setdefault(row["family"], []).append(row)
    columns = (Column("Family", numeric=False), Column("Models"), *(Column(title) for title in ERRORS.values()))
    body = []
    for family, rows in families.items():
        worst = [f"{max(row[name] for row in rows):.0e}" for name in ERRORS]
        body.append(Row(tuple(map(Cell, (TITLES[family], str(len(rows)), *worst)))))
    made_on = found["environment"]
    told = f"transformers {made_on['transformers']}, torch {made_on['torch']}, commit {made_on['commit'][:9]}"
    return markdown_table(Table(columns, tuple(body))) + f"\n\n{told}."
