"""``/inference``: every kind of body, waiting or not, and every way to refuse."""

from __future__ import annotations

import base64
import gzip
import io
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.http.problems import MEDIA_TYPE
from tasks.inspect.search import SearchFilter
from tasks.protocol.owners import ANONYMOUS
from tasks.protocol.requests import State
from tests.unit.api import samples
from tests.unit.api.fakes import FakeQueue, ended

PNG = samples.png()
BASE64 = base64.b64encode(PNG).decode()
#: Larger than a field of a form that is no file may be.
LARGE = PNG + bytes(100_000)


def post(client: FlaskClient, body: Any = None, **more: Any) -> TestResponse:
    given = {"data": BASE64, "model_type": "answers", **(body or {})}
    return client.post("/inference", json={name: value for name, value in given.items() if value is not None}, **more)


def refused(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The problem document, after checking that it is one and says what the status line says."""
    assert (response.status_code, response.mimetype) == (status, MEDIA_TYPE), response.text
    problem = response.get_json()
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"/problems/{code}")
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert isinstance(problem["retryable"], bool)
    return dict(problem)


class TestBodies:
    def test_json_with_base64(self, client: FlaskClient, queue: FakeQueue) -> None:
        response = post(client, {"priority": "high", "top_k": 1, "custom_id": "mine", "deadline": 2})
        assert response.status_code == 200
        body = response.get_json()
        assert (body["status"], body["state"], body["model"]) == ("success", "succeeded", "answers")
        assert body["predictions"] == [{"class": "tabby", "index": 281, "confidence": 0.75}]
        sent = queue.submitted[0]
        assert (sent.image, sent.priority, sent.top_k, sent.deadline) == (PNG, "high", 1, 2.0)

    @pytest.mark.parametrize(
        "data",
        [
            f"data:image/png;base64,{BASE64}",
            "\n".join(BASE64[i : i + 20] for i in range(0, len(BASE64), 20)),
            "data:image/png;base64," + BASE64.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
            f"DATA:image/png;BASE64,{BASE64}",
        ],
        ids=["data URL", "wrapped lines", "escaped data URL", "data URL in capitals"],
    )
    def test_other_spellings_of_base64(self, client: FlaskClient, queue: FakeQueue, data: str) -> None:
        assert post(client, {"data": data}).status_code == 200
        assert queue.submitted[0].image == PNG

    def test_multipart(self, client: FlaskClient, queue: FakeQueue) -> None:
        form = {"image": (io.BytesIO(PNG), "a.png"), "model_type": "answers", "top_k": "2", "deadline": "1.5"}
        assert client.post("/inference", data=form).status_code == 200
        sent = queue.submitted[0]
        assert (sent.image, sent.model_type, sent.top_k, sent.deadline) == (PNG, "answers", 2, 1.5)

    def test_escapes_late_in_a_data_url(self, client: FlaskClient, queue: FakeQueue) -> None:
        large = samples.png(90, 90) + bytes(6001)
        url = "data:image/png;base64," + base64.b64encode(large).decode().replace("=", "%3D")
        assert url.index("%3D") > 4200
        assert post(client, {"data": url}).status_code == 200
        assert queue.submitted[0].image == large

    def test_an_image_part_without_a_file_name(self, client: FlaskClient, queue: FakeQueue) -> None:
        head = b'--B\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
        model = b'--B\r\nContent-Disposition: form-data; name="model_type"\r\n\r\nanswers\r\n'
        body = model + head + LARGE + b"\r\n--B--\r\n"
        for path in ("/inference", "/batch_inference"):
            answer = client.post(path, data=body, content_type="multipart/form-data; boundary=B")
            assert answer.status_code == 200, answer.text
        assert [(sent.image, sent.model_type) for sent in queue.submitted] == [(LARGE, "answers")] * 2

    @pytest.mark.parametrize("chunked", [False, True])
    @pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 413)])
    def test_a_body_of_exactly_the_limit_passes(
        self, client: FlaskClient, chunked: bool, extra: int, status: int
    ) -> None:
        room = 400_000 - len(json.dumps({"data": BASE64, "x": ""}))
        body = json.dumps({"data": BASE64, "x": " " * (room + extra)}).encode()
        more: dict[str, Any] = {"environ_base": {"wsgi.input_terminated": True}} if chunked else {}
        answer = client.post(
            "/inference", input_stream=io.BytesIO(body), content_type="application/json",
            content_length=None if chunked else len(body), **more,
        )  # fmt: skip
        assert answer.status_code == status, answer.text

    @pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "application/octet-stream"])
    def test_raw_bytes_with_query_parameters(self, client: FlaskClient, queue: FakeQueue, media_type: str) -> None:
        url = "/inference?model_type=answers&priority=low&request_id=r-1"
        assert client.post(url, data=PNG, content_type=media_type).status_code == 200
        sent = queue.submitted[0]
        assert (sent.image, sent.priority, sent.request_id) == (PNG, "low", "r-1")

    def test_any_is_the_default_model_and_unknown_fields_are_ignored(
        self, client: FlaskClient, queue: FakeQueue
    ) -> None:
        assert post(client, {"model_type": None, "something": [1, 2]}).status_code == 200
        assert queue.submitted[0].model_type == "any"


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "content_type", "status", "code"),
        [
            (b"", "application/json", 400, "empty_body"),
            (b"", None, 400, "empty_body"),
            (b"", "image/png", 400, "empty_body"),
            (b"", "multipart/form-data; boundary=x", 400, "empty_body"),
            (b"{", "application/json", 400, "invalid_json"),
            (b"\xff\xfe{", "application/json", 400, "invalid_json"),
            (b"[" * 100_000, "application/json", 400, "invalid_json"),
            (b'{"top_k": ' + b"9" * 5000 + b"}", "application/json", 400, "invalid_json"),
            (b"[]", "application/json", 422, "invalid_parameters"),
            (b"{}", "application/json", 422, "invalid_parameters"),
            (b'{"data": 7}', "application/json", 422, "invalid_parameters"),
            (b'{"data": ""}', "application/json", 422, "empty_image"),
            (b'{"data": "a,b!"}', "application/json", 400, "invalid_base64"),
            (b'{"data": "data:image/png,xx"}', "application/json", 400, "invalid_base64"),
            (b'{"data": "\xc3\xa4"}', "application/json", 400, "invalid_base64"),
            (b'{"data": "aGVsbG8="}', "application/json", 422, "unsupported_image"),
            (b"--x--", "multipart/form-data; boundary=x", 422, "invalid_parameters"),
            (b"junk", "multipart/form-data; boundary=x", 400, "invalid_multipart"),
            (b"junk", "multipart/form-data", 400, "invalid_multipart"),
            (b"hello", "image/png", 422, "unsupported_image"),
            (PNG, "text/plain", 415, "unsupported_media_type"),
            (PNG, "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
            (samples.png(60_000, 60_000), "image/png", 422, "too_many_pixels"),
            (bytes(200_001), "image/png", 413, "image_too_large"),
            (bytes(400_001), "image/png", 413, "body_too_large"),
        ],
    )
    def test_bad_bodies(
        self, client: FlaskClient, queue: FakeQueue, data: bytes, content_type: str | None, status: int, code: str
    ) -> None:
        stream = io.BytesIO(data)  # the client would build another form for an empty multipart body
        response = client.post(
            "/inference", input_stream=stream, content_length=len(data) or None, content_type=content_type
        )
        refused(response, status, code)
        assert not queue.submitted
        assert ("Accept-Post" in response.headers) == (status == 415)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("top_k", 0),
            ("top_k", True),
            ("top_k", "x"),
            ("top_k", 1.5),
            ("priority", "urgent"),
            ("priority", ["high"]),
            ("deadline", 0),
            ("deadline", -3),
            ("deadline", "soon"),
            ("deadline", True),
            ("deadline", "nan"),
            ("deadline", 10**400),
            ("request_id", "a b"),
            ("request_id", ""),
            ("request_id", "x" * 129),
            ("request_id", "."),
            ("request_id", ".."),
            ("model_type", 5),
            ("callback_url", "https://example.org/hook"),
        ],
    )
    def test_bad_parameters_are_named(self, client: FlaskClient, queue: FakeQueue, name: str, value: Any) -> None:
        problem = refused(post(client, {name: value}), 422, "invalid_parameters")
        assert [error["name"] for error in problem["errors"]] == [name]
        assert not queue.submitted

    @pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "x", "identity, gzip"])
    @pytest.mark.parametrize(
        ("path", "media_type"),
        [
            ("/inference", "application/json"),
            ("/inference", "image/png"),
            ("/inference", "multipart/form-data; boundary=B"),
            ("/batch_inference", "application/json"),
            ("/batch_inference", "multipart/form-data; boundary=B"),
            ("/v2/models/answers/infer", "application/octet-stream"),
        ],
    )
    def test_a_compressed_body_is_415_everywhere(
        self, client: FlaskClient, queue: FakeQueue, path: str, media_type: str, coding: str
    ) -> None:
        packed = gzip.compress(json.dumps({"data": BASE64}).encode())
        answer = client.post(path, data=packed, content_type=media_type, headers={"Content-Encoding": coding})
        refused(answer, 415, "unsupported_media_type")
        assert answer.headers["Accept-Encoding"] == "identity"
        assert not queue.submitted

    def test_all_bad_parameters_are_named_at_once(self, client: FlaskClient) -> None:
        problem = refused(post(client, {"top_k": 0, "priority": "x"}), 422, "invalid_parameters")
        assert {error["name"] for error in problem["errors"]} == {"top_k", "priority"}

    def test_an_unknown_model_is_answered_with_the_known_ones(self, client: FlaskClient) -> None:
        problem = refused(post(client, {"model_type": "gpt"}), 422, "unknown_model")
        assert "answers" in problem["models"]
        assert "any" in problem["models"]

    @pytest.mark.parametrize(
        ("model", "code", "after"), [("full", "lane_full", "8"), ("hopeless", "deadline_hopeless", "9")]
    )
    def test_a_refusal_says_when_to_come_back(self, client: FlaskClient, model: str, code: str, after: str) -> None:
        response = post(client, {"model_type": model})
        assert refused(response, 503, code)["retryable"]
        assert response.headers["Retry-After"] == after

    def test_redis_down_is_503_and_livez_stays_200(self, client: FlaskClient, queue: FakeQueue) -> None:
        queue.down = True
        response = post(client)
        assert refused(response, 503, "broker_unavailable")["retryable"]
        assert response.headers["Retry-After"] == "1"
        assert client.get("/livez").status_code == 200

    def test_a_request_that_failed_is_a_problem_for_who_waited(self, client: FlaskClient) -> None:
        problem = refused(post(client, {"model_type": "fails", "request_id": "bad"}), 422, "truncated_image")
        assert problem["detail"] == "the JPEG ends early"
        assert (problem["instance"], problem["state"]) == ("/inference/bad", "failed")

    @pytest.mark.parametrize(
        ("state", "error", "status", "code"),
        [
            (State.EXPIRED, None, 504, "expired"),
            (State.CANCELED, None, 409, "canceled"),
            (State.FAILED, {"code": "inference_failed", "message": "no", "retryable": True}, 500, "inference_failed"),
            (State.FAILED, {"code": "brand_new", "message": "no", "retryable": False}, 500, "inference_failed"),
        ],
    )
    def test_every_other_end_has_its_own_status(
        self, client: FlaskClient, queue: FakeQueue, state: State, error: Any, status: int, code: str
    ) -> None:
        post(client, {"model_type": "sleeps", "request_id": "x"})
        queue.kept["x"] = ended(queue.kept["x"], state, error)
        refused(post(client, {"model_type": "sleeps", "request_id": "x"}), status, code)


class TestWaiting:
    def test_respond_async_answers_at_once(self, client: FlaskClient) -> None:
        response = post(client, headers={"Prefer": "respond-async"})
        assert response.status_code == 202
        assert response.headers["Preference-Applied"] == "respond-async"
        assert response.headers["Vary"] == "Prefer"
        assert response.headers["Retry-After"] == "1"
        body = response.get_json()
        assert response.headers["Location"] == body["urls"]["self"] == f"/inference/{body['request_id']}"
        assert client.get(response.headers["Location"]).get_json()["status"] == "succeeded"

    def test_what_does_not_end_in_time_is_202_with_its_place(self, client: FlaskClient) -> None:
        response = post(client, {"model_type": "sleeps"}, headers={"Prefer": "wait=1"})
        assert response.status_code == 202
        assert response.headers["Preference-Applied"] == "wait=1"
        assert response.headers["Retry-After"] == "3"
        body = response.get_json()
        assert (body["status"], body["queue_position"], body["eta"]) == ("queued", 4, 2.5)

    def test_no_place_to_wait_is_202_and_nothing_is_lost(self, client: FlaskClient, queue: FakeQueue) -> None:
        queue.places = 0
        response = post(client)
        assert response.status_code == 202
        assert client.get(response.headers["Location"]).status_code == 200

    def test_server_timing_is_in_milliseconds(self, client: FlaskClient) -> None:
        assert "queue;dur=10.0, decode;dur=5.0, infer;dur=20.0" in post(client).headers["Server-Timing"]


class TestIdempotency:
    def test_same_key_and_body_is_the_same_request(self, client: FlaskClient, queue: FakeQueue) -> None:
        first = post(client, headers={"Idempotency-Key": '"k1"'})
        again = post(client, headers={"Idempotency-Key": "k1"})
        assert first.get_json()["request_id"] == again.get_json()["request_id"]
        assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
        assert len(queue.submitted) == 1

    def test_the_same_image_in_another_kind_of_body_is_the_same_request(self, client: FlaskClient) -> None:
        post(client, {"request_id": "r"})
        raw = client.post("/inference?model_type=answers&request_id=r", data=PNG, content_type="image/png")
        assert raw.headers["Idempotent-Replayed"] == "true"

    @pytest.mark.parametrize("spelled", [{"top_k": 5}, {"top_k": "5"}, {"priority": "normal"}, {"model_type": "any"}])
    def test_a_default_that_is_spelled_out_is_the_same_request(
        self, client: FlaskClient, spelled: dict[str, Any]
    ) -> None:
        key = {"headers": {"Idempotency-Key": "k1"}}
        post(client, {"model_type": None}, **key)
        assert post(client, {"model_type": None, **spelled}, **key).headers["Idempotent-Replayed"] == "true"
        nulls = {"data": BASE64, "top_k": None, "priority": None, "model_type": None}
        assert client.post("/inference", json=nulls, **key).headers["Idempotent-Replayed"] == "true"
        batch = {"requests": [{"data": BASE64}]}
        client.post("/batch_inference", json=batch, **key)
        again = client.post("/batch_inference", json={"requests": [{"data": BASE64, **spelled}]}, **key)
        assert again.headers["Idempotent-Replayed"] == "true"

    @pytest.mark.parametrize("change", [{"data": base64.b64encode(samples.png(4, 4)).decode()}, {"top_k": 2}])
    def test_another_body_under_the_key_is_a_conflict(self, client: FlaskClient, change: dict[str, Any]) -> None:
        post(client, headers={"Idempotency-Key": "k1"})
        refused(post(client, change, headers={"Idempotency-Key": "k1"}), 422, "idempotency_conflict")

    def test_a_replay_of_what_has_ended_answers_at_once_also_to_respond_async(self, client: FlaskClient) -> None:
        post(client, {"request_id": "r"})
        assert post(client, {"request_id": "r"}, headers={"Prefer": "respond-async"}).status_code == 200

    def test_a_key_too_long_is_refused(self, client: FlaskClient) -> None:
        refused(post(client, headers={"Idempotency-Key": "k" * 256}), 422, "invalid_parameters")


class TestResource:
    def test_etag_changes_with_the_state_only(self, client: FlaskClient, queue: FakeQueue) -> None:
        post(client, {"model_type": "sleeps", "request_id": "x"}, headers={"Prefer": "respond-async"})
        first = client.get("/inference/x")
        etag = first.headers["ETag"]
        assert not etag.startswith("W/")
        same = client.get("/inference/x", headers={"If-None-Match": etag})
        assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", etag)
        for weak in (f"W/{etag}", f'"other", W/{etag}', "*"):  # as a proxy that compresses answers makes it
            assert client.get("/inference/x", headers={"If-None-Match": weak}).status_code == 304
        assert client.get("/inference/x", headers={"If-None-Match": 'W/"other"'}).status_code == 200
        queue.kept["x"] = ended(queue.kept["x"], State.SUCCEEDED)
        other = client.get("/inference/x", headers={"If-None-Match": etag})
        assert (other.status_code, other.get_json()["status"]) == (200, "succeeded")
        assert other.headers["ETag"] != etag

    def test_unknown_is_404(self, client: FlaskClient) -> None:
        refused(client.get("/inference/nope"), 404, "unknown_request")
        refused(client.delete("/inference/nope"), 404, "unknown_request")

    @pytest.mark.parametrize(("method", "path"), [("DELETE", "/inference/x"), ("POST", "/inference/x/cancel")])
    def test_cancel_twice_is_fine_and_after_the_end_409(self, client: FlaskClient, method: str, path: str) -> None:
        post(client, {"model_type": "sleeps", "request_id": "x"}, headers={"Prefer": "respond-async"})
        for _ in range(2):
            response = client.open(path, method=method)
            assert (response.status_code, response.get_json()["status"]) == (200, "canceled")
        post(client, {"request_id": "done"})
        refused(client.open(path.replace("x", "done"), method=method), 409, "already_finished")

    def test_listing_filters_and_pages(self, client: FlaskClient) -> None:
        for index in range(3):
            post(client, {"request_id": f"r{index}"})
        post(client, {"model_type": "sleeps", "request_id": "q"}, headers={"Prefer": "respond-async"})
        first = client.get("/inference?limit=2&status=succeeded").get_json()
        rest = client.get(f"/inference?limit=2&status=succeeded&cursor={first['next_cursor']}").get_json()
        assert [r["request_id"] for r in first["requests"] + rest["requests"]] == ["r0", "r1", "r2"]
        assert rest["next_cursor"] is None
        assert len(client.get("/inference?model_type=sleeps").get_json()["requests"]) == 1

    def test_a_search_says_what_it_wants_in_the_callers_words(self, client: FlaskClient, queue: FakeQueue) -> None:
        times = "since=2026-01-05T12:00:00Z&until=2026-01-05T13:00:00%2B01:00"
        answer = client.get(f"/inference?model=resnet18&worker=w-1@host&request_id=0196&{times}")
        assert answer.status_code == 200
        noon = 1_767_614_400.0
        words = {"model": "resnet18", "worker": "w-1@host", "request_id": "0196"}
        assert queue.searched == [SearchFilter(owner=ANONYMOUS, since=noon, until=noon, **words)]

    @pytest.mark.parametrize(
        "query",
        [
            "limit=0",
            "limit=x",
            "limit=501",
            "status=done",
            "cursor=-inf",
            "cursor=[1",
            "since=noon",
            "until=2026-13-01",
            "until=",
        ],
    )
    def test_bad_listing_parameters_are_named(self, client: FlaskClient, query: str) -> None:
        problem = refused(client.get(f"/inference?{query}"), 422, "invalid_parameters")
        assert problem["errors"][0]["name"] == query.partition("=")[0]


class TestCorrelation:
    def test_a_harmless_request_id_is_echoed_and_another_replaced(self, client: FlaskClient) -> None:
        assert client.get("/livez", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
        replaced = client.get("/livez", headers={"X-Request-ID": "a b<script>"}).headers["X-Request-ID"]
        assert len(replaced) == 32

    def test_traceparent_reaches_the_worker(self, client: FlaskClient, queue: FakeQueue) -> None:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        body = post(client, headers={"traceparent": parent}).get_json()
        assert queue.submitted[0].traceparent == parent
        assert body["trace_id"] == "0af7651916cd43dd8448eb211c80319c"

    def test_a_bad_traceparent_is_replaced(self, client: FlaskClient, queue: FakeQueue) -> None:
        post(client, headers={"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01"})
        made = queue.submitted[0].traceparent or ""
        assert made.startswith("00-")
        assert "0" * 32 not in made
