"""The official ``tritonclient``, unmodified, against the real API with a real model."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import skimage.data
from PIL import Image

from tests.support.stack import ApiProcess, Stack

triton = pytest.importorskip("tritonclient.http")
pytestmark = pytest.mark.filterwarnings("default")  # tritonclient and gevent warn about themselves

MODEL = "efficientnet_lite0"


@pytest.fixture(scope="module")
def real_api(module_stack: Stack) -> ApiProcess:
    module_stack.start_worker(MODEL, name="lite0-1", MODELS=MODEL, timeout=180)
    return module_stack.start_api(MODELS=MODEL)


@pytest.fixture
def client(real_api: ApiProcess) -> Iterator[object]:
    with triton.InferenceServerClient(real_api.url.removeprefix("http://")) as made:
        yield made


@pytest.fixture(scope="module")
def cat() -> np.ndarray:
    return np.asarray(skimage.data.chelsea())


def as_jpeg(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


def images(*files: bytes, binary: bool = True) -> object:
    tensor = triton.InferInput("image", [len(files)], "BYTES")
    tensor.set_data_from_numpy(np.array(files, dtype=object), binary_data=binary)
    return tensor


def test_server_and_model_metadata(client: object) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.get_server_metadata()["name"] == "inferlane"
    metadata = client.get_model_metadata(MODEL)
    assert client.is_model_ready(MODEL, metadata["versions"][0])
    assert [tensor["name"] for tensor in metadata["outputs"]] == ["label", "index", "confidence"]


def test_a_photo_of_a_cat_is_a_cat(client: object, cat: np.ndarray) -> None:
    answer = client.infer(MODEL, [images(as_jpeg(cat))], request_id="r1")
    labels = [label.decode() for label in answer.as_numpy("label")[0]]
    assert "cat" in labels[0] or labels[0] == "tabby", labels
    assert answer.as_numpy("index").shape == (1, 5)
    assert answer.as_numpy("confidence").dtype == np.float32
    assert answer.get_response()["id"] == "r1"
    assert answer.get_response()["parameters"]["weights"].startswith("pypi:")


def test_a_batch_with_chosen_outputs_in_json(client: object, cat: np.ndarray) -> None:
    coffee = np.asarray(skimage.data.coffee())
    wanted = [triton.InferRequestedOutput("label", binary_data=False)]
    answer = client.infer(MODEL, [images(as_jpeg(cat), as_jpeg(coffee))], outputs=wanted, parameters={"top_k": 1})
    labels = answer.as_numpy("label")
    assert labels.shape == (2, 1)
    assert labels[0, 0] != labels[1, 0]
    assert answer.as_numpy("confidence") is None


@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_pixels_give_what_the_file_gives(client: object, cat: np.ndarray, datatype: str) -> None:
    out = io.BytesIO()
    Image.fromarray(cat).save(out, "PNG")
    pixels = cat[np.newaxis] if datatype == "UINT8" else (cat[np.newaxis] / 255).astype(np.float32)
    tensor = triton.InferInput("pixels", list(pixels.shape), datatype)
    tensor.set_data_from_numpy(np.ascontiguousarray(pixels))
    by_file, by_pixels = client.infer(MODEL, [images(out.getvalue())]), client.infer(MODEL, [tensor])
    assert (by_file.as_numpy("index") == by_pixels.as_numpy("index")).all()
    assert np.allclose(by_file.as_numpy("confidence"), by_pixels.as_numpy("confidence"), atol=1e-5)


def test_the_classification_extension(client: object, cat: np.ndarray) -> None:
    wanted = [triton.InferRequestedOutput("confidence", class_count=2)]
    found = client.infer(MODEL, [images(as_jpeg(cat))], outputs=wanted).as_numpy("confidence")
    assert found.shape == (1, 2)
    assert found[0, 0].decode().count(":") >= 2


def test_a_client_that_sends_what_the_metadata_lists_is_answered(client: object, cat: np.ndarray) -> None:
    listed = client.get_model_metadata(MODEL)["inputs"]
    assert [(tensor["name"], tensor["datatype"]) for tensor in listed] == [("image", "BYTES")]
    assert client.infer(MODEL, [images(as_jpeg(cat))], timeout=0, priority=1).as_numpy("label").shape == (1, 5)


@pytest.mark.parametrize("scale", [255.0, -1.0])
def test_pixels_on_another_scale_are_refused(client: object, cat: np.ndarray, scale: float) -> None:
    tensor = triton.InferInput("pixels", [1, *cat.shape], "FP32")
    tensor.set_data_from_numpy((cat[np.newaxis] / 255 * scale).astype(np.float32))
    with pytest.raises(triton.InferenceServerException, match=r"0\.0 to 1\.0") as caught:
        client.infer(MODEL, [tensor])
    assert caught.value.status() == "422"


def test_a_failure_of_the_worker_is_told_in_words(client: object, cat: np.ndarray) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer(MODEL, [images(as_jpeg(cat)[:-400])])
    assert isinstance(caught.value.message(), str), "an object would not be a message"
    assert caught.value.status() == "422"


def test_a_compressed_body_is_refused(client: object, cat: np.ndarray) -> None:
    with pytest.raises(triton.InferenceServerException, match="gzip") as caught:
        client.infer(MODEL, [images(as_jpeg(cat))], request_compression_algorithm="gzip")
    assert caught.value.status() == "415"


def test_errors_reach_the_caller_in_words(client: object) -> None:
    with pytest.raises(triton.InferenceServerException, match="no JPEG") as caught:
        client.infer(MODEL, [images(b"hello")])
    assert caught.value.status() == "422"
    with pytest.raises(triton.InferenceServerException, match="no model gpt"):
        client.infer("gpt", [images(b"hello")])
