"""The routes, one file per resource; :data:`BLUEPRINTS` is all of them, in the document's order."""

from api.routes import (
    admin,
    audit,
    batches,
    dead_letters,
    health,
    images,
    inference,
    keys,
    ops,
    problems,
    queue,
    usage,
    v2,
)

BLUEPRINTS = (
    inference.blueprint,
    images.blueprint,
    batches.blueprint,
    queue.blueprint,
    usage.blueprint,
    health.blueprint,
    v2.blueprint,
    dead_letters.blueprint,
    admin.blueprint,
    keys.blueprint,
    audit.blueprint,
    problems.blueprint,
    ops.blueprint,
)
