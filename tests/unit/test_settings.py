"""Settings are checked when read, and everything written about them is true."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from common.settings import Settings, SettingsError, load_settings, misspelt, variables
from tasks.lanes import STRATEGIES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / ".env.example"

# Variables of other programs that the documentation may name.
FOREIGN = {
    "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS",
    "SIGTERM", "SIGKILL", "TORCH_HOME", "CI", "PYTHON", "VENV", "WITHOUT", "REPLICA", "MODEL",
    "PYTEST_ARGUMENTS", "INFERLANE_API_KEY", "INFERLANE_URL", "PROTOCOL_EXAMPLES", "SCHEMATHESIS_EXAMPLES",
    "CHAOS", "NAME", "PATH", "REDIS_PASSWORD", "PROFILES", "OTEL_EXPORTER_OTLP_ENDPOINT",
}  # fmt: skip


def test_every_variable_is_in_the_example_file_and_no_other() -> None:
    assert set(dotenv_values(EXAMPLE)) == set(variables())


def test_the_example_file_states_the_defaults() -> None:
    assert load_settings(dict(dotenv_values(EXAMPLE))) == Settings()


def test_every_variable_of_the_example_file_has_a_comment_above_its_group() -> None:
    for block in EXAMPLE.read_text().split("\n\n"):
        if re.search(r"^[A-Z_]+=", block, re.MULTILINE):
            assert block.lstrip("\n").startswith("#"), block


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("**/*.md"))]


@pytest.mark.parametrize("page", [page for page in documents() if page.exists()], ids=lambda page: page.name)
def test_documents_assign_only_variables_that_exist(page: Path) -> None:
    """``NAME=value`` anywhere in a page is something a reader will type."""
    assigned = set(re.findall(r"(?<![\w$-])([A-Z][A-Z0-9_]{2,})=", page.read_text()))
    assert assigned <= set(variables()) | FOREIGN


@pytest.mark.parametrize("name", ["BROKER_URL", "RESULT_BACKEND", "APP"])
def test_no_variable_has_a_name_that_only_the_celery_command_line_reads(name: str) -> None:
    assert name not in variables()


def test_a_misspelt_variable_is_named_and_one_of_another_program_is_not(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    compose = (
        "REDIS_PASSWORD=a\nGRAFANA_PASSWORD=b\nCUDA_MODEL=c\nAPI_PUBLISH=d\nDASHBOARD_PUBLISH=e\nINFERLANE_URL=f\n"
    )
    file.write_text(f"API_PROT=1\nAPI_PORT=2\nMAX_BATCHES=3\n{compose}")
    assert misspelt(file) == [
        f"{file}: API_PROT is no setting; is it API_PORT?",
        f"{file}: MAX_BATCHES is no setting; is it MAX_BATCH?",
    ]
    assert misspelt(tmp_path / "none") == []


def test_an_empty_or_missing_variable_keeps_its_default() -> None:
    assert load_settings({}) == load_settings({"API_PORT": "", "LOG_LEVEL": "  "}) == Settings()


def test_a_model_of_your_own_has_a_name_and_a_factory() -> None:
    settings = load_settings({"MODELS": "resnet18, mine=my.module:make, other:factory"})
    assert settings.models == ("resnet18", "mine", "other:factory")
    assert [entry.factory for entry in settings.models] == ["", "my.module:make", "other:factory"]
    assert [entry.spelled for entry in settings.models] == ["resnet18", "mine=my.module:make", "other:factory"]
    assert settings.model("mine").factory == "my.module:make"
    assert settings.model("mine=another:one").factory == "another:one"


@pytest.mark.parametrize("text", ["any", "high", "a.b", "a b", "=x:y", "mine=nothing", "mine=", "a,a", "a,a=x:y"])
def test_a_name_that_cannot_be_a_lane_or_is_given_twice_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^MODELS: "):
        load_settings({"MODELS": text})


ALIASES = [
    ("WORKER_TIMEOUT", "3.5", "lease_ttl", 3.5),
    ("HEALTH_CHECK_INTERVAL", "0.25", "lease_renew", 0.25),
    ("MAX_RETRIES", "7", "max_retries", 7),
    ("RETRY_DELAY", "2", "retry_backoff", 2),
    ("BATCH_SIZE", "4", "max_batch", 4),
    ("QUEUE_SIZE", "50", "max_queue", 50),
    ("BATCH_TIMEOUT", "0.05", "batch_timeout", 0.05),
    ("LOAD_BALANCE_STRATEGY", "random", "any_strategy", "random"),
    ("METRICS_WINDOW", "60", "metrics_window", 60.0),
    ("LOG_LEVEL", "DEBUG", "log_level", "DEBUG"),
]


@pytest.mark.parametrize(("name", "text", "field", "value"), ALIASES, ids=[alias[0] for alias in ALIASES])
def test_the_names_of_the_first_version_set_what_they_set_then(name: str, text: str, field: str, value: object) -> None:
    assert getattr(load_settings({name: text}), field) == value
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load_settings({name: "nonsense"})


def test_a_strategy_is_one_of_those_there_are() -> None:
    assert all(load_settings({"ANY_STRATEGY": name}).any_strategy == name for name in STRATEGIES)


def test_an_alias_may_agree_with_its_setting_and_not_contradict_it() -> None:
    assert load_settings({"QUEUE_SIZE": "50", "MAX_QUEUE": "50"}).max_queue == 50
    with pytest.raises(SettingsError, match="QUEUE_SIZE: another name of MAX_QUEUE, which says otherwise"):
        load_settings({"QUEUE_SIZE": "50", "MAX_QUEUE": "60"})


def test_values_are_parsed_to_their_types() -> None:
    settings = load_settings(
        {"API_PORT": "9000", "MODELS": "a, b", "LEASE_TTL": "1.5", "CHAOS_ENABLED": "yes", "LANE_WEIGHTS": "5,2,1",
         "LOG_FORMAT": "JSON"}
    )  # fmt: skip
    assert (settings.api_port, settings.models, settings.lease_ttl) == (9000, ("a", "b"), 1.5)
    assert (settings.chaos_enabled, settings.lane_weights, settings.log_format) == (True, (5, 2, 1), "json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_PORT", "0"), ("API_PORT", "65536"), ("API_PORT", "http"), ("LEASE_TTL", "-1"), ("LEASE_TTL", "inf"),
        ("LEASE_TTL", "nan"), ("CHAOS_ENABLED", "maybe"), ("RUNTIME", "tensorflow"), ("LANE_WEIGHTS", "6,3"),
        ("LANE_WEIGHTS", "6,3,0"), ("LANE_WEIGHTS", "a,b,c"), ("MAX_BATCH", "0"), ("MODELS", ","),
        ("LEASE_RENEW", "1.5"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_refused_by_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}:"):
        load_settings({name: value})


@given(st.sampled_from(variables()), st.text(max_size=20).filter(lambda text: "\0" not in text))
def test_any_text_is_either_accepted_or_refused_with_the_settings_error(name: str, text: str) -> None:
    try:
        settings = load_settings({name: text})
    except SettingsError as error:
        assert str(error).split(":")[0] in variables()  # noqa: PT017 - either outcome is right
    else:
        assert isinstance(settings, Settings)


def test_settings_do_not_change_once_read() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().api_port = 1  # type: ignore[misc]


def test_the_environment_wins_over_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("API_PORT=9001\nFLOWER_PORT=9002\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_PORT", "9003")
    monkeypatch.delenv("FLOWER_PORT", raising=False)
    settings = load_settings()
    assert (settings.api_port, settings.flower_port) == (9003, 9002)


def test_clients_find_the_api_at_its_own_address_unless_told_otherwise() -> None:
    assert Settings(api_port=8001).base_url == "http://127.0.0.1:8001"
    assert Settings(api_url="https://example.org/").base_url == "https://example.org"


def test_every_setting_has_a_parser() -> None:
    assert [item.name for item in fields(Settings) if "parser" not in item.metadata] == []


def test_without_an_address_redis_is_the_broker_of_the_run_directory(tmp_path: Path) -> None:
    own = load_settings({"RUN_DIR": str(tmp_path)})
    assert own.redis_url == f"unix://{tmp_path}/redis/redis.sock"
    assert own.embeds_broker
    assert not load_settings({"REDIS_URL": "redis://r:1/2"}).embeds_broker
