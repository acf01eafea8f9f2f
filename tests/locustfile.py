"""Load with Locust, for those who know it: ``pip install locust``, then ``locust -f tests/locustfile.py -H URL``.

Each user waits for an answer before the next request, so a system that falls behind gets less load and looks better
than its users would find it; ``tests/load_test.py --rate`` does not have that weakness. Locust is no requirement.
"""

from __future__ import annotations

import os
from pathlib import Path

from locust import HttpUser, between, task
from locust.clients import ResponseContextManager

CAT = (Path(__file__).resolve().parents[1] / "docs" / "images" / "cat.png").read_bytes()
CAT_CLASSES = range(281, 286)


class Visitor(HttpUser):
    """Shows the cat and looks whether it was recognised."""

    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        """Send the key, if there is one."""
        if key := os.environ.get("INFERLANE_API_KEY"):
            self.client.headers["X-API-Key"] = key

    @task(8)
    def normal(self) -> None:
        """A photo at normal priority."""
        self._classify("normal")

    @task(2)
    def high(self) -> None:
        """A photo at high priority."""
        self._classify("high")

    def _classify(self, priority: str) -> None:
        parameters = {"model_type": "any", "priority": priority}
        headers = {"Content-Type": "image/png"}
        with self.client.post(
            "/inference", params=parameters, data=CAT, headers=headers, name=f"/inference {priority}",
            catch_response=True,
        ) as answer:  # fmt: skip
            if problem := _problem(answer):
                answer.failure(problem)


def _problem(answer: ResponseContextManager) -> str:
    if answer.status_code != 200:
        return f"{answer.status_code}: {answer.text[:200]}"
    body = answer.json()
    if body["weights"] == "random":
        return "random weights"
    best = body["predictions"][0]
    return "" if best["index"] in CAT_CLASSES else f"wrong answer: {best['class']}"
