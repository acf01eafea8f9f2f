"""Parsers of variables: text to a value, or a ``ValueError`` that says what the value must be."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

Parser = Callable[[str], Any]
Number = TypeVar("Number", int, float)


def number(text: str, kind: Callable[[str], Number], expected: str) -> Number:
    """The number in ``text``; ``expected`` says what it must be."""
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"must be {expected}") from None


def integer(least: int = 0, most: int | None = None) -> Parser:
    """A parser of whole numbers within bounds."""

    def parse(text: str) -> int:
        value = number(text, int, "a whole number")
        if value < least or (most is not None and value > most):
            raise ValueError(f"must be at least {least}" + (f" and at most {most}" if most is not None else ""))
        return value

    return parse


port = integer(1, 65535)


def integers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    return tuple(number(part, int, "whole numbers with commas between them") for part in text.split(","))


def seconds(text: str) -> float:
    """A positive number of seconds."""
    value = number(text, float, "a number of seconds")
    if not 0 < value < math.inf:
        raise ValueError("must be a positive number of seconds")
    return value


def seconds_or_zero(text: str) -> float:
    """A number of seconds; 0 means no limit."""
    return 0.0 if number(text, float, "a number of seconds") == 0 else seconds(text)


def payload_store(text: str) -> str:
    """``redis``, or the URL of a folder or of a filesystem of fsspec."""
    scheme, separator, rest = text.partition("://")
    if text != "redis" and not (scheme and separator and rest):
        raise ValueError("must be redis, file:///folder or another URL of fsspec, such as s3://bucket/prefix")
    if scheme == "file" and not rest.startswith("/"):
        raise ValueError("must name an absolute folder, with three slashes: file:///folder")
    return text


def rate(text: str) -> tuple[int, float]:
    """``calls/seconds``."""
    calls, _, period = text.partition("/")
    if integer(1)(calls) and not period:
        raise ValueError("must be calls/seconds, for example 100/60")
    return int(calls), seconds(period)


def switch(text: str) -> bool:
    """1 or 0, and other words for them."""
    value = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in value:
        raise ValueError("must be 1 or 0")
    return value[text.lower()]


def one_of(*choices: str) -> Parser:
    """A parser of one of these, in any case."""

    def parse(text: str) -> str:
        for choice in choices:
            if text.lower() == choice.lower():
                return choice
        raise ValueError("must be one of " + ", ".join(choices))

    return parse


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
