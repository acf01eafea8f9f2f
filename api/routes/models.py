"""``/models``: what ``model_type`` may say, and which live workers serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.http.openapi import Answer, Operations
from api.services import app_settings, service
from api.views.resources import reply
from api.views.schemas import ModelsSchema
from tasks.inspect.monitor import Monitor
from worker_models.errors import UnknownModel
from worker_models.registry import describe as describe_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flask import Response

blueprint = Operations("models", __name__, description="Which models there are")


@blueprint.operation(
    "GET",
    "/models",
    (200, Answer("All models", ModelsSchema)),
    problems=("broker_unavailable",),
    operation_id="listModels",
)
def get_models() -> Response:
    """List the configured models, and those that live workers bring along."""
    workers = service(Monitor).workers()
    names = dict.fromkeys([*app_settings().models, *sorted(str(worker["model"]) for worker in workers)])
    return reply({"models": [model_row(name, workers) for name in names]})


def model_row(name: str, workers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One model: its card, if the registry has one, and its live workers."""
    live = [worker for worker in workers if worker["model"] == name]
    return {
        "name": name,
        **_card(name),
        "weights": sorted({str(worker["weights"]) for worker in live}),
        "runtimes": sorted({str(worker["runtime"]) for worker in live}),
        "live_workers": len(live),
        "available": bool(live),
    }


def _card(name: str) -> dict[str, Any]:
    """What the registry says; a model of one's own (``--model package.module:factory``) is not in it."""
    try:
        card = describe_model(name)
    except UnknownModel:
        return {"version": None, "architecture": None, "input_size": None, "labels": None}
    return {
        "version": card.version,
        "architecture": card.architecture,
        "input_size": card.input_size,
        "labels": card.classes,
    }
