"""Says on standard error what a command waits for, after two silent seconds."""

import logging
import threading
from types import TracebackType
from typing import Self

from inferlane.console import Context, advice, plain
from inferlane.errors import ClientError

SOON = 2.0  # seconds


class Waiting(logging.Handler):
    """While this is open: a line after two silent seconds, and a line for each new kind of failure that is retried."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self._failure: tuple[float, ClientError] | None = None  # the patience with it, and the error
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Note the failure that is about to be retried."""
        match record.args:
            case (float() as patience, ClientError() as error):
                self._failure = patience, error

    def _watch(self) -> None:
        told: set[str] = set()
        while not self._over.wait(SOON):
            failure, self._failure = self._failure, None
            if failure is not None and failure[1].code not in told:
                patience, error = failure
                told.add(error.code)
                hint = advice(error, has_key=bool(self._context.arguments.api_key))
                words = [f"{error}", f"trying again for {patience:g} s (--patience)", hint]
                self._tell("; ".join(filter(None, words)))
            elif not told and not self._context.printed():
                told.add("")
                limit = f"{self._context.timeout:g} s at most (--timeout)"
                self._tell(f"waiting for {self._context.arguments.url}, {limit}")

    def _tell(self, text: str) -> None:
        self._context.log.print(plain(text), soft_wrap=True)

    def __enter__(self) -> Self:
        log = logging.getLogger("inferlane")
        log.setLevel(logging.INFO)
        log.addHandler(self)
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._over.set()
        logging.getLogger("inferlane").removeHandler(self)
