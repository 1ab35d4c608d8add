"""Options of commands whose runs may be tasks of a Ray cluster."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from longread.errors import UserError, option_name
from longread.study.cluster import Cluster

On = Literal["here", "ray"]
OfCluster = Annotated[Cluster, Parameter(name="*", group=Group("On Ray", sort_key=6))]
CLUSTER = Cluster()


def cluster_of(on: On, cluster: Cluster) -> Cluster | None:
    """None for runs in this place. UserError for options of a cluster without one."""
    if on == "ray":
        return cluster
    for field in fields(Cluster):
        if getattr(cluster, field.name) != getattr(CLUSTER, field.name):
            raise UserError(f"{option_name(field.name)}: give --on ray with it")
    return None
