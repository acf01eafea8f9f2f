"""Sending what a plan says."""

from __future__ import annotations

import argparse
import os
import random

from inferlane import AsyncClient, traffic
from inferlane.retries import ONCE
from inferlane.traffic import Account
from tests.load import plan, screen


async def load(arguments: argparse.Namespace, live: screen.Live) -> Account:
    """Send what ``arguments`` ask for, once each: a retry would hide what is to be measured."""
    rng = random.Random(arguments.seed)  # noqa: S311 - no secret
    key = os.environ.get("INFERLANE_API_KEY")
    async with AsyncClient(arguments.url, key, timeout=arguments.timeout, retries=ONCE) as client:
        return await traffic.drive(
            client, plan.shots(arguments, rng), plan.times(arguments, rng),
            in_flight=plan.places(arguments), on_end=live.on_end,
        )  # fmt: skip
