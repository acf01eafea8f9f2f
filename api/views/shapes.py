"""Shorthands for JSON Schema in the OpenAPI document."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

Shape = dict[str, Any]


def _typed(kind: str | list[str], description: str = "", **more: Any) -> Shape:
    return {"type": kind} | ({"description": description} if description else {}) | more


string, number, integer, boolean = (partial(_typed, kind) for kind in ("string", "number", "integer", "boolean"))
maybe_string, maybe_number, maybe_integer, maybe_boolean = (
    partial(_typed, [kind, "null"]) for kind in ("string", "number", "integer", "boolean")
)
count = partial(_typed, "integer", minimum=0)


def time(description: str) -> Shape:
    """A time, or null while there is none."""
    return maybe_string(f"{description}; RFC 3339, UTC", format="date-time")


def ref(name: str) -> Shape:
    """The component of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(shape: Shape) -> Shape:
    """The same, or null."""
    return {"anyOf": [shape, {"type": "null"}]}


def array(items: Shape, description: str = "", **more: Any) -> Shape:
    """A list."""
    return _typed("array", description, items=items, **more)


def many(name: str, description: str = "") -> Shape:
    """A list of components."""
    return array(ref(name), description)


def strings(description: str = "") -> Shape:
    """A list of strings."""
    return array(string(), description)


def mapping(description: str = "", values: Shape | None = None) -> Shape:
    """An object whose members have no fixed names."""
    return _typed("object", description, additionalProperties=values or {})


def shape(
    base: Mapping[str, Shape] | None = None, *, optional: Collection[str] = (), closed: bool = False, **members: Shape
) -> Shape:
    """An object with the members of ``base`` and these, all required but the ``optional``.

    It may gain members in later versions unless it is ``closed``.
    """
    properties = {**(base or {}), **members}
    required = [name for name in properties if name not in optional]
    found: Shape = {"type": "object", "properties": properties, "additionalProperties": not closed}
    return found | ({"required": required} if required else {})
