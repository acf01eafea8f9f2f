"""``PRECISION=fast``: OpenVINO in the precision that is fastest on this CPU, if the answers stay those of ``exact``.

Every precision is tried on views of the photographs in ``data/photos``: no top class may change where the exact answer
leads the next class by more than ``LEAD``. The fastest that passes is used. The trials of a graph are kept beside it in
the cache, for this CPU and these versions.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import platform
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from common.settings import Settings
from worker_models.limits import Limits
from worker_models.preprocess import decode
from worker_models.registry import Transform
from worker_models.runtimes import CpuRuntime, OnnxRuntime, Pixels, Probabilities, Runtime

log = logging.getLogger(__name__)

PHOTOS = Path(__file__).parent / "data" / "photos"
LEAD = 0.05
"""A top class may change only where its exact probability leads by less than this."""
WORTH = 1.1
"""How many times as fast as ``exact`` it must be."""
MISSING = "OpenVINO is not installed (scripts/setup.sh fast)"
_ROUNDS = 7
_ALONE = threading.Lock()
"""Processor time is counted for the whole process."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One precision compared with exact answers.

    Attributes:
        speed: forward passes for the same processor time, as a multiple of exact ones.
        photos: views compared.
        changed: views whose top class differs.
        wrong: those of them whose exact answer leads by more than LEAD.
        difference: the largest change of a probability.
    """

    precision: str
    speed: float
    photos: int
    changed: int
    wrong: int
    difference: float

    @property
    def passed(self) -> bool:
        """Whether it is faster and its answers are those of ``exact``."""
        return self.wrong == 0 and self.speed >= WORTH

    def __str__(self) -> str:
        changed = f"{self.changed} of {self.photos} views get another top class"
        leads = f"{self.wrong or 'none'} with a lead above {LEAD}"
        moved = f"probabilities change by up to {self.difference:.3f}"
        return f"openvino {self.precision}, {self.speed:.2f} times as fast as exact; {changed}, {leads}; {moved}"


def best(trials: Sequence[Trial]) -> Trial | None:
    """The fastest trial that passed."""
    return max((trial for trial in trials if trial.passed), key=lambda trial: trial.speed, default=None)


def fast_runtime(graph: Path, transform: Transform, settings: Settings) -> Runtime | None:
    """The runtime of ``PRECISION=fast`` for this graph; None, with a line in the log, if exact is best."""
    trials = find_trials(graph, transform, settings)
    chosen = best(trials)
    if chosen is None:
        why = "; ".join(map(str, trials)) or (MISSING if not _openvino() else "OpenVINO cannot run this graph")
        log.warning("PRECISION=fast: %s answers exactly: %s", graph.stem, why)
        return None
    from worker_models.openvino_runtime import OpenVinoRuntime

    log.info("PRECISION=fast: %s: %s", graph.stem, chosen)
    return OpenVinoRuntime(graph, chosen.precision, settings)


def find_trials(graph: Path, transform: Transform, settings: Settings) -> list[Trial]:
    """The trials of a graph, kept ones or made now; none where OpenVINO is not installed."""
    if not _openvino():
        return []
    kept = kept_trials(graph)
    if kept is not None:
        return kept
    with _ALONE:
        trials = list(_try_all(graph, transform, settings))
    file = _file(graph)
    part = file.with_suffix(f".{os.getpid()}.part")
    content = {"for": _circumstances(), "trials": [asdict(trial) for trial in trials]}
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(file)
    return trials


def kept_trials(graph: Path) -> list[Trial] | None:
    """The trials of this graph on this CPU with these versions; None if there were none."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(_file(graph).read_text(encoding="utf-8"))
        if kept["for"] == _circumstances():
            return [Trial(**trial) for trial in kept["trials"]]
    return None


def _file(graph: Path) -> Path:
    return graph.with_suffix(".fast.json")


def _openvino() -> str | None:
    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


def _circumstances() -> dict[str, Any]:
    """All that a trial depends on, besides the graph."""
    cpu = {platform.machine()}
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu.update(line for line in lines if line.startswith(("model name", "flags", "Features")))
    digest = hashlib.sha256("".join(sorted(cpu)).encode()).hexdigest()
    return {"cpu": digest[:16], "openvino": _openvino(), "onnxruntime": version("onnxruntime")}


def _try_all(graph: Path, transform: Transform, settings: Settings) -> Iterator[Trial]:
    from worker_models.openvino_runtime import OpenVinoRuntime, precisions

    pixels = views(transform, Limits.of_worker(settings))
    exact = OnnxRuntime(graph, settings)
    expected = _answers(exact, pixels)
    for precision in precisions():
        try:
            other = OpenVinoRuntime(graph, precision, settings)
            yield _compare(precision, expected, _answers(other, pixels), _speed(exact, other, pixels[:2]))
        except RuntimeError as error:
            log.warning("OpenVINO cannot run %s in %s: %s", graph.stem, precision, error)
    exact.close()


def views(transform: Transform, limits: Limits) -> Pixels:
    """Every photograph as the decoder would leave it: whole, five parts of it, and their mirror images."""
    found = []
    for path in sorted(PHOTOS.glob("*.jpg")):
        with Image.open(path) as photo:
            for part in _parts(photo.convert("RGB")):
                for view in (part, ImageOps.mirror(part)):
                    encoded = io.BytesIO()
                    view.save(encoded, "JPEG", quality=95)
                    found.append(decode(encoded.getvalue(), transform, limits))
    return np.stack(found)


def _parts(photo: Image.Image) -> Iterator[Image.Image]:
    yield photo
    width, height = photo.size[0] * 7 // 10, photo.size[1] * 7 // 10
    right, bottom = photo.size[0] - width, photo.size[1] - height
    for x, y in ((0, 0), (right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 2)):
        yield photo.crop((x, y, x + width, y + height))


def _answers(runtime: Runtime, pixels: Pixels) -> Probabilities:
    return np.concatenate([runtime.run(pixels[start : start + 2]) for start in range(0, len(pixels), 2)])


def _compare(precision: str, expected: Probabilities, answers: Probabilities, speed: float) -> Trial:
    top = np.sort(expected, axis=1)
    leads = top[:, -1] - top[:, -2]
    differs = expected.argmax(axis=1) != answers.argmax(axis=1)
    return Trial(
        precision,
        speed=round(speed, 3),
        photos=len(expected),
        changed=int(differs.sum()),
        wrong=int((differs & (leads > LEAD)).sum()),
        difference=round(float(np.abs(expected - answers).max()), 6),
    )


def _speed(exact: CpuRuntime, other: CpuRuntime, pixels: Pixels) -> float:
    """How many passes of ``other`` cost the processor time of one of ``exact``: the least of a few taken in turns."""
    times: dict[str, list[float]] = {exact.name: [], other.name: []}
    for _ in range(_ROUNDS):
        for runtime in (exact, other):
            began = time.process_time()
            runtime.narrow(pixels)
            times[runtime.name].append(time.process_time() - began)
    return min(times[exact.name]) / min(times[other.name])
