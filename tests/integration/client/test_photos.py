"""Real photos and real weights through the client: what the answers say, not only that there are some."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import skimage.data

from inferlane import Client
from inferlane.errors import InvalidImage
from tests.integration.client.test_command_line import run
from tests.support.stack import ApiProcess, Stack

MODEL = "efficientnet_lite0"
SHIPPED = Path(skimage.data.__file__).parent
CATS = range(281, 286)  # ImageNet's domestic cats


@pytest.fixture(scope="module")
def api(module_stack: Stack) -> ApiProcess:
    module_stack.start_worker(MODEL, timeout=180)
    return module_stack.start_api(MODELS=MODEL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        shutil.copy(SHIPPED / name, tmp_path / name)
    whole = (SHIPPED / "rocket.jpg").read_bytes()
    (tmp_path / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def test_a_cat_is_a_cat_and_the_answer_says_which_weights_said_so(api: ApiProcess, folder: Path) -> None:
    with Client(api.url) as client:
        result = client.predict(folder / "chelsea.png", top_k=3)
    assert result.best.index in CATS
    assert "random" not in result.weights
    assert len(result.predictions) == 3
    assert sum(guess.confidence for guess in result.predictions) <= 1
    assert result.predictions == tuple(sorted(result.predictions, key=lambda guess: -guess.confidence))


def test_a_photo_cut_off_in_the_middle_is_an_invalid_image(api: ApiProcess, folder: Path) -> None:
    with Client(api.url) as client, pytest.raises(InvalidImage) as caught:
        client.predict(folder / "torn.jpg")
    assert caught.value.code == "truncated_image"


def test_a_folder_of_photos_becomes_a_table(
    api: ApiProcess, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    output = tmp_path_factory.mktemp("out") / "photos.csv"
    done = run(api.url, "classify", folder, "-o", output, timeout=120)
    assert done.returncode == 1, done.stderr
    with output.open(newline="") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert int(rows["chelsea.png"]["index"]) in CATS
    assert rows["rocket.jpg"]["label"] == "missile" or "projectile" in rows["rocket.jpg"]["label"]
    assert (rows["torn.jpg"]["error_code"], rows["torn.jpg"]["retryable"]) == ("truncated_image", "false")
    again = run(api.url, "classify", folder, "-o", output)
    assert again.returncode == 1  # torn.jpg still has no answer
    assert "4 were done before" in again.stderr
