from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import create_app
from api.engine import Connections
from settings import Settings, load_settings
from tests.unit.api.fakes import MODELS, FakeQueue


@pytest.fixture
def settings() -> Settings:
    return load_settings({"MODELS": ",".join(MODELS), "MAX_BODY_BYTES": "400000", "MAX_IMAGE_BYTES": "200000"})


@pytest.fixture
def queue(settings: Settings) -> FakeQueue:
    return FakeQueue(settings)


@pytest.fixture
def app(settings: Settings, queue: FakeQueue) -> Flask:
    made = create_app(settings, connections=Connections(lambda _: queue, lambda _: queue, lambda _: queue))
    made.config["TESTING"] = True
    return made


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
