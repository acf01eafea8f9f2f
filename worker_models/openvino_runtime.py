"""The runtime of ``PRECISION=fast``: an exported graph in OpenVINO, in the numbers that the CPU multiplies fastest."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import openvino

from common.settings import Settings
from worker_models.runtimes import EXACT, CpuRuntime, Pixels, Probabilities

HINTS: Mapping[str, str] = {"bfloat16": "bf16", "float16": "f16", EXACT: "f32"}
_CAPABILITIES: Mapping[str, str] = {"BF16": "bfloat16", "FP16": "float16", "FP32": EXACT}


def precisions() -> Sequence[str]:
    """The precisions of this CPU, by OpenVINO's account."""
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [precision for capability, precision in _CAPABILITIES.items() if capability in able]


class OpenVinoRuntime(CpuRuntime):
    """An exported graph; see :class:`worker_models.runtimes.Runtime`.

    Raises:
        RuntimeError: OpenVINO cannot read the graph, or cannot run it in ``precision``.
    """

    name = "openvino"

    def __init__(self, graph: Path, precision: str, settings: Settings) -> None:
        super().__init__(settings)
        self.precision = precision
        core = openvino.Core()
        network = core.read_model(str(graph))
        self._requests: SimpleQueue[Any] = SimpleQueue()
        several = _compile(core, network, precision, streams=self.passes, threads=self._threads)
        for _ in range(self.passes):
            self._requests.put(several.create_infer_request())
        self.wide = self.narrow = self._side_by_side
        if self._threads > 1:
            # Only a fixed size is spread over threads.
            network.reshape({0: [1, *(side.get_length() for side in list(network.input(0).partial_shape)[1:])]})
            self._single = _compile(core, network, precision, streams=1, threads=self._threads).create_infer_request()
            self.wide = lambda pixels: (
                _forward(self._single, pixels) if len(pixels) == 1 else self._side_by_side(pixels)
            )

    def _side_by_side(self, pixels: Pixels) -> Probabilities:
        request = self._requests.get()  # there are as many as passes
        try:
            return _forward(request, pixels)
        finally:
            self._requests.put(request)

    def close(self) -> None:
        """See :class:`worker_models.runtimes.Runtime`."""
        super().close()
        self._requests, self._single = SimpleQueue(), None


def _compile(core: openvino.Core, network: openvino.Model, precision: str, *, streams: int, threads: int) -> Any:
    options = {
        "INFERENCE_PRECISION_HINT": HINTS[precision], "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # every worker of a host would be pinned to the same cores
    }  # fmt: skip
    return core.compile_model(network, "CPU", options)


def _forward(request: Any, pixels: Pixels) -> Probabilities:
    (probabilities,) = request.infer({0: pixels}, share_inputs=True).values()
    result: Probabilities = probabilities
    return result
