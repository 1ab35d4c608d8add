"""Options of commands whose runs may be tasks of a Ray cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from longread.cli.options import given_options, panel
from longread.errors import UserError, option_name
from longread.study.cluster import Cluster

On = Literal["here", "ray"]
OfCluster = Annotated[Cluster, panel("On Ray", 6)]
CLUSTER = Cluster()


def cluster_of(on: On, cluster: Cluster) -> Cluster | None:
    """None for runs in this place. UserError for options of a cluster without one."""
    if on == "ray":
        return cluster
    for name in given_options(cluster):
        raise UserError(f"{option_name(name)}: give --on ray with it")
    return None
