"""``/inference/{id}/image``: the image of a request, while it is kept.

For administrators only: it is someone's photo.
"""

from __future__ import annotations

from flask import Response

from api.http import declared
from api.http.openapi import Answer, Operations
from api.http.problems import HttpProblem
from api.input.images import media_type
from api.services import service
from tasks.producer.gateway import Gateway
from tasks.protocol.owners import public_id

blueprint = Operations("images", __name__, description="The image of a request")
#: Untrusted content: a browser may show it as a picture or not at all.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, no-store",
}


@blueprint.operation(
    "GET", "/inference/<request_id>/image",
    Answer("The image as it was sent", {"type": "string"}, media_type="image/*"),
    problems=declared.ONE_REQUEST, role="admin",
)  # fmt: skip
def get_image(request_id: str) -> Response:
    """Get the image of an open request or a dead letter; others are deleted: 410."""
    gateway = service(Gateway)
    gateway.get(request_id)
    image = gateway.records.image(request_id)
    if not image:
        raise HttpProblem("purged_request", f"The image of {public_id(request_id)} is deleted: the request has ended.")
    return Response(image, mimetype=media_type(image), headers=HEADERS)
