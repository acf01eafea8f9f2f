from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import create_app
from api.engine import Connections
from settings import Settings, load_settings
from tests.unit.api.fakes import MODELS, FakeControls, FakeDeadLetters, FakeQueue

BASE = {"MODELS": ",".join(MODELS), "MAX_BODY_BYTES": "400000", "MAX_IMAGE_BYTES": "200000"}


@pytest.fixture
def settings() -> Settings:
    return load_settings(BASE)


@pytest.fixture
def queue(settings: Settings) -> FakeQueue:
    return FakeQueue(settings)


@pytest.fixture
def controls(settings: Settings) -> FakeControls:
    return FakeControls(settings)


@pytest.fixture
def dead_letters(queue: FakeQueue) -> FakeDeadLetters:
    return FakeDeadLetters(queue)


@pytest.fixture
def make_app(queue: FakeQueue, controls: FakeControls, dead_letters: FakeDeadLetters) -> Callable[..., Flask]:
    """An API over the fakes: ``make_app(ADMIN_KEY="k")``."""
    connections = Connections(
        lambda _: queue, lambda _: queue, lambda _: queue, lambda _: controls, lambda _: dead_letters
    )

    def make(**environ: object) -> Flask:
        made = create_app(
            load_settings(BASE | {key: str(value) for key, value in environ.items()}), connections=connections
        )
        made.config["TESTING"] = True
        return made

    return make


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
