"""The whole system through HTTP: callers on keep-alive connections against the real API, Redis and worker."""

from __future__ import annotations

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psutil

from bench.limit import Run


class Callers:
    """Posts photos to one API and reads the CPU time of the processes behind it."""

    def __init__(self, url: str, pids: dict[str, int]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port
        self._processes = {name: _family(pid) for name, pid in pids.items()}
        self._local = threading.local()

    def single(self, photo: bytes, model: str, number: int, concurrency: int) -> Run:
        """One photo per synchronous request, raw body."""
        path = f"/inference?model_type={model}"

        def once(_: int) -> float:
            began = time.perf_counter()
            answer = self._post(path, photo, "image/jpeg")
            _check(answer)
            return time.perf_counter() - began

        return self._measure(f"single c={concurrency}", once, number, concurrency)

    def submit_and_poll(self, photo: bytes, model: str, number: int, concurrency: int) -> Run:
        """202 at once, then one long poll for the answer."""

        def once(_: int) -> float:
            began = time.perf_counter()
            path = f"/inference?model_type={model}"
            accepted = self._post(path, photo, "image/jpeg", {"Prefer": "respond-async"})
            _check(self._request("GET", f"/inference/{accepted['request_id']}", None, {"Prefer": "wait=30"}))
            return time.perf_counter() - began

        return self._measure(f"submit and poll c={concurrency}", once, number, concurrency)

    def batch(self, photo: bytes, model: str, number: int, size: int) -> Run:
        """Multipart batches of ``size`` photos, two callers."""
        body, kind = _multipart(photo, model, size)

        def once(_: int) -> float:
            began = time.perf_counter()
            answer = self._post("/batch_inference", body, kind, {"Prefer": "wait=30"})
            for item in answer["results"]:
                _check(item)
            return time.perf_counter() - began

        run = self._measure(f"batch of {size}", once, number // size, 2)
        return Run(run.name, run.answered * size, run.seconds, run.cpu_seconds, run.latencies)

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, per part of the system."""
        return {name: sum(_cpu(p) for p in family) for name, family in self._processes.items()}

    def _measure(self, name: str, once: object, number: int, concurrency: int) -> Run:
        with ThreadPoolExecutor(concurrency) as threads:
            list(threads.map(once, range(concurrency)))  # type: ignore[arg-type]
            before, began = sum(self.cpu().values()), time.perf_counter()
            latencies = list(threads.map(once, range(number)))  # type: ignore[arg-type]
            seconds, after = time.perf_counter() - began, sum(self.cpu().values())
        return Run(name, number, seconds, after - before, latencies)  # type: ignore[arg-type]

    def _post(self, path: str, body: bytes, kind: str, headers: dict[str, str] | None = None) -> dict:
        return self._request("POST", path, body, {"Content-Type": kind, **(headers or {})})

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> dict:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(self._host, self._port, timeout=60)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status not in (200, 202):
            raise RuntimeError(f"{method} {path}: {response.status} {answer[:200]!r}")
        return json.loads(answer)


def _check(answer: dict) -> None:
    if answer.get("status") not in ("success", "succeeded") or not answer.get("predictions"):
        raise RuntimeError(f"not an answer: {answer}")


def _multipart(photo: bytes, model: str, size: int) -> tuple[bytes, str]:
    boundary = "inferlane-bench"
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="model_type"\r\n\r\n{model}\r\n'.encode()]
    for number in range(size):
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{number}.jpg"\r\n'
        parts.append(head.encode() + b"Content-Type: image/jpeg\r\n\r\n" + photo + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
