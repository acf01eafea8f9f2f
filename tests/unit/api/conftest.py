from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from api.features.audit import Audit
from api.features.batches import Batches
from api.features.cache import SharedAnswers
from api.http.api_keys import KnownKeys
from api.http.live_keys import LiveKeys
from api.http.ownership import Owners
from api.http.rate_limit import Budgets
from api.services import EXTENSION, Factories, Services
from common.settings import Settings, load_settings
from tasks.control.dead_letters import DeadLetters
from tasks.control.orders import Controls
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway
from tests.unit.api.fakes import MODELS, FakeAudit, FakeControls, FakeDeadLetters, FakeQueue

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
def audit() -> FakeAudit:
    return FakeAudit()


@pytest.fixture
def factories(queue: FakeQueue, controls: FakeControls, dead_letters: FakeDeadLetters, audit: FakeAudit) -> Factories:
    return {
        Gateway: lambda _: queue,
        Monitor: lambda _: queue,
        Batches: lambda _: queue,
        Budgets: lambda _: queue,
        SharedAnswers: lambda _: queue,
        Owners: lambda _: queue,
        LiveKeys: KnownKeys,
        Audit: lambda _: audit,
        Controls: lambda _: controls,
        DeadLetters: lambda _: dead_letters,
    }


@pytest.fixture
def make_app(factories: Factories) -> Callable[..., Flask]:
    """An API over the fakes: ``make_app(ADMIN_KEY="k")``."""

    def make(**environ: object) -> Flask:
        settings = load_settings(BASE | {key: str(value) for key, value in environ.items()})
        made = create_app(settings, factories=factories)
        made.config["TESTING"] = True
        return made

    return make


@pytest.fixture(scope="session")
def shared_app() -> Flask:
    """Building the OpenAPI document takes longer than most tests, so they share one app and bring their own queue."""
    return create_app(load_settings(BASE))


@pytest.fixture
def app(shared_app: Flask, settings: Settings, factories: Factories) -> Flask:
    shared_app.config.update(TESTING=True, PROPAGATE_EXCEPTIONS=None)
    shared_app.extensions[EXTENSION] = Services(settings, factories)
    return shared_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
