"""Requests made beside the page, and what became of them."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image
from skimage import data

if TYPE_CHECKING:
    from tests.e2e.dashboard.conftest import System


def cat() -> bytes:
    """A photo of a cat: JPEG."""
    return _jpeg(data.chelsea())  # type: ignore[no-untyped-call]


def coffee() -> bytes:
    """A photo of a cup of espresso: JPEG."""
    return _jpeg(data.coffee())  # type: ignore[no-untyped-call]


def _jpeg(pixels: Any) -> bytes:
    with BytesIO() as written:
        Image.fromarray(pixels).save(written, "JPEG", quality=90)
        return written.getvalue()


def submit(system: System, priority: str = "normal") -> str:
    """The id of a request that the API has accepted."""
    wanted = {"model_type": system.model, "priority": priority}
    headers = {"Prefer": "respond-async", "Content-Type": "image/jpeg"}
    answer = system.api.client.post("/inference", params=wanted, headers=headers, content=cat())
    assert answer.status_code == 202, answer.text
    return str(answer.json()["request_id"])


def state(system: System, request_id: str) -> str:
    """Where it is."""
    return str(system.api.client.get(f"/inference/{request_id}").json()["state"])
