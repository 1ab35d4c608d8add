"""The same service as a Ray Serve deployment: replicas of the application, each with its own batcher and limits.

serve run longread.serving.ray:application checkpoint=out/mail/runs/RUN replicas=2
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ray import serve

from longread.errors import UserError
from longread.inference.predictor import load
from longread.serving.app import create_app
from longread.serving.service import Service
from longread.serving.settings import ServeSettings
from longread.system.allocator import tune_allocator

OF_THE_LIMITS = ("tokens_per_batch", "max_concurrent", "max_texts", "max_body_bytes", "timeout", "threads")
OF_THE_MODEL = ("device", "precision")
OF_THE_REPLICAS = ("replicas", "cpus", "gpus")


def application(given: dict[str, Any]) -> serve.Application:
    """`checkpoint`, and any of: limits as of `longread serve`; device, precision; replicas, cpus and gpus of each.

    A replica takes as many requests as `max_concurrent` texts and some; what is more waits in Ray's proxy. UserError
    for another name.
    """
    known = ("checkpoint", *OF_THE_LIMITS, *OF_THE_MODEL, *OF_THE_REPLICAS)
    unknown = [name for name in given if name not in known]
    if unknown or "checkpoint" not in given:
        raise UserError(
            f"{', '.join(unknown) or 'checkpoint is missing'}: give checkpoint, and any of {', '.join(known[1:])}"
        )
    kinds = {field.name: float if field.name == "timeout" else int for field in fields(ServeSettings)}
    limits: dict[str, Any] = {name: kinds[name](given[name]) for name in OF_THE_LIMITS if name in given}
    settings = ServeSettings(**limits)
    computing = {name: given[name] for name in OF_THE_MODEL if name in given}
    checkpoint = str(given["checkpoint"])

    def make() -> Any:
        """In a replica: the application of `longread serve`."""
        tune_allocator()
        predictor = load(checkpoint, **computing)  # before Ray sends it a request
        return create_app(lambda: Service(predictor, settings), settings)

    @serve.deployment(
        name="longread",
        num_replicas=int(given.get("replicas", 1)),
        ray_actor_options={"num_cpus": float(given.get("cpus", 1)), "num_gpus": float(given.get("gpus", 0))},
        max_ongoing_requests=2 * settings.max_concurrent,  # so that the service itself says 429
    )
    @serve.ingress(make)
    class Replica:
        """Only what the application answers."""

    return Replica.bind()  # type: ignore[attr-defined]
