"""A reader of PyTorch's ``.pth`` files that needs no torch: a state dict as numpy arrays.

Both formats: the zip archive of PyTorch 1.6 and later, and the sequence of pickles before it. Only the names in a state
dict of plain tensors are unpickled, so a file cannot run code.
"""

from __future__ import annotations

import pickle  # nosec B403 # restricted by find_class
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

#: The first pickle of the older format.
MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "|i1", "ByteStorage": "|u1", "BoolStorage": "|b1",
}  # fmt: skip


class UnreadableStateDict(Exception):
    """This reader does not understand the file."""


def read_state_dict(path: Path) -> dict[str, Array]:
    """The tensors of a ``.pth`` file by name; those below ``state_dict`` where a checkpoint has that.

    Raises:
        UnreadableStateDict: it is damaged, or holds more than plain tensors.
    """
    try:
        with path.open("rb") as file:
            found, bytes_of = _read_zip(path) if zipfile.is_zipfile(file) else _read_legacy(path)
        state = found.get("state_dict", found)
        return {name: _array(tensor, bytes_of(tensor.storage.key)) for name, tensor in state.items()}
    except (OSError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, struct.error) as error:
        raise UnreadableStateDict(str(error)) from error
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UnreadableStateDict(f"no state dict of plain tensors: {error}") from error


class _Storage(NamedTuple):
    """A block of numbers, which tensors are views of."""

    dtype: str
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: _Tensor(*arguments[:4])
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, *_ = pid
        return _Storage(dtype, key)


def _read_zip(path: Path) -> tuple[Mapping[str, Any], Callable[[str], bytes]]:
    archive = zipfile.ZipFile(path)
    index = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = index.removesuffix("data.pkl")
    with archive.open(index) as file:
        return _Unpickler(file).load(), lambda key: archive.read(f"{folder}data/{key}")


def _read_legacy(path: Path) -> tuple[Mapping[str, Any], Callable[[str], bytes]]:
    storages: dict[str, _Storage] = {}

    class Unpickler(_Unpickler):
        def persistent_load(self, pid: Any) -> _Storage:
            storage = super().persistent_load(pid)
            return storages.setdefault(storage.key, storage)

    with path.open("rb") as file:
        if Unpickler(file).load() != MAGIC:
            raise pickle.UnpicklingError("it does not begin like a PyTorch file")
        Unpickler(file).load()  # version of the protocol
        Unpickler(file).load()  # sizes of the writer's types
        found = Unpickler(file).load()
        blocks = {}
        for key in Unpickler(file).load():
            (length,) = struct.unpack("<q", file.read(8))
            blocks[key] = file.read(length * int(storages[key].dtype[2:]))
    return found, blocks.__getitem__


def _array(tensor: _Tensor, data: bytes) -> Array:
    import numpy as np

    numbers = np.frombuffer(data, tensor.storage.dtype)
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min(tensor.offset, *tensor.shape, *tensor.strides, 0) < 0 or last >= max(len(numbers), 1):
        raise ValueError("a tensor reaches beyond its storage")
    steps = [stride * numbers.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, steps, writeable=False)
    copied: Array = view.copy()
    return copied
