"""Errors are problem+json, whoever found them: they name the field, the reason and what to do."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import Workspace
from tests.api.conftest import Caller
from tests.api.rows import dataset_version

pytestmark = pytest.mark.django_db
MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    assert answer.headers["Content-Type"] == "application/problem+json"
    content: dict[str, Any] = answer.json()
    assert set(content) == MEMBERS and content["status"] == status
    assert content["request_id"] == answer.headers["X-Request-Id"]
    assert content["detail"] and content["code"]
    return content


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v2/me", 404),
        ("POST", "/api/v1/nothing", 404),
        ("POST", "/api/v1/me", 405),
        ("DELETE", "datasets", 405),
        ("OPTIONS", "datasets", 405),
        ("GET", "datasets/dat_nonsense", 404),
        ("GET", "datasets/dat_01k7fz3m9q0000000000000000", 404),
        ("GET", "datasets/%00", 404),
    ],
)
def test_addresses_that_are_none(admin: Caller, method: str, path: str, status: int) -> None:
    problem(admin(method, path), status)


def test_addresses_that_no_database_takes(admin: Caller, workspace: Workspace) -> None:
    for typed_id in ("%00", "x" * 3000):
        problem(admin.post(f"datasets/{typed_id}/versions", {}, Idempotency_Key="k"), 404)
    browser = Client()
    browser.force_login(workspace.members.get())
    problem(browser.get("/api/v1/workspaces/%00/datasets"), 404)


@pytest.mark.parametrize("digits", ["9" * 5000, "٣"])
def test_numbers_that_no_column_holds(admin: Caller, workspace: Workspace, digits: str) -> None:
    problem(admin.get(f"datasets?limit={digits}"), 422)
    path = f"dataset-versions/{dataset_version(workspace).typed_id}"
    problem(admin.get(f"{path}/logs?offset={digits}"), 422)
    problem(admin.delete(path, If_Match=f'"{digits}"'), 400)
    browser = Client()
    user = workspace.members.get()
    browser.force_login(user)
    for page in ("events/", "settings/audit/"):
        assert browser.get(f"/w/team/{page}?before={digits}").status_code == 200


def test_who_is_not_known_is_told_how_to_be() -> None:
    answer = Client().get("/api/v1/me")
    assert "Bearer" in problem(answer, 401)["detail"]
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Bearer wl_unknown", "Bearer", "Basic abc", "Bearer sk-other"])
def test_a_bad_key_is_refused(header: str) -> None:
    problem(Client().get("/api/v1/me", headers={"Authorization": header}), 401)


def test_a_body_that_is_no_json(admin: Caller) -> None:
    problem(admin.post("datasets", b"{"), 400)
    problem(admin.post("datasets", b'{"name": NaN}'), 400)


def test_a_media_type_that_is_not_read(admin: Caller) -> None:
    problem(admin("POST", "datasets", b"name=x", Content_Type="text/plain"), 415)


def test_a_body_that_is_too_large(admin: Caller) -> None:
    problem(admin.post("datasets", {"name": "x", "description": "x" * 3_000_000}), 413)


def test_all_wrong_fields_are_named_at_once(admin: Caller) -> None:
    errors = problem(admin.post("training-runs", {"modle": "x", "processes": "two"}), 422)["errors"]
    assert errors[0]["field"] == "modle" and "model" in errors[0]["fix"]
    errors = problem(admin.post("training-runs", {"processes": "two"}), 422)["errors"]
    assert {error["field"] for error in errors} == {"model", "processes"}
    assert all(error["detail"] and error["fix"] for error in errors)


def test_hyperparameters_say_what_would_work(admin: Caller, workspace: Workspace) -> None:
    body = {
        "model": "digits",
        "recipe": "image_classifier",
        "dataset_version": dataset_version(workspace).typed_id,
        "processes": 4,
        "hyperparameters": {"batch_size": 6},
    }
    (error,) = problem(admin.post("training-runs", body), 422)["errors"]
    assert error["field"] == "hyperparameters.batch_size"
    assert error["detail"] == "6 does not divide by 4 processes." and error["fix"].startswith("Use 4 or 8")
    body["hyperparameters"] = {"learning_rte": 1}
    (error,) = problem(admin.post("training-runs", body), 422)["errors"]
    assert error["fix"] == "Did you mean learning_rate?"


def test_values_out_of_range_say_the_range(admin: Caller, workspace: Workspace) -> None:
    body = {
        "model": "Digits!",
        "recipe": "table_classifier",
        "dataset_version": dataset_version(workspace).typed_id,
        "processes": 0,
        "memory_bytes_per_process": 1,
        "secrets": ["token"],
    }
    errors = problem(admin.post("training-runs", body), 422)["errors"]
    assert errors == [{"field": "model", "detail": errors[0]["detail"], "fix": "“digits” would work."}]
    body["model"] = "digits"
    errors = problem(admin.post("training-runs", body), 422)["errors"]
    assert {error["field"] for error in errors} == {"processes", "memory_bytes_per_process", "recipe"}
    assert "image_classifier" in next(error["fix"] for error in errors if error["field"] == "recipe")


def test_a_secret_that_is_not_there(admin: Caller, workspace: Workspace) -> None:
    body = {
        "model": "digits",
        "recipe": "image_classifier",
        "dataset_version": dataset_version(workspace).typed_id,
        "secrets": ["token"],
    }
    assert problem(admin.post("training-runs", body), 422)["errors"][0]["field"] == "secrets"
    assert admin.post("secrets", {"name": "token", "value": "hush"}).status_code == 201
    assert admin.post("training-runs", body).status_code == 201
    assert problem(admin.delete(f"secrets/{admin.get('secrets').json()['items'][0]['id']}"), 409)["code"] == "InUse"


def test_a_mistake_of_ours_is_a_problem_too(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("apps.registry.services.create_dataset", broken)
    admin.client.raise_request_exception = False
    answer = admin.post("datasets", {"name": "flowers"})
    assert problem(answer, 500)["code"] == "InternalError"
    assert b"secret detail" not in answer.content


def test_the_callers_request_id_is_kept_if_it_is_a_good_one(admin: Caller) -> None:
    assert admin.get("datasets", X_Request_Id="my-trace-0001").headers["X-Request-Id"] == "my-trace-0001"
    assert admin.get("datasets", X_Request_Id="a b\tc").headers["X-Request-Id"].startswith("req_")


def test_a_filter_that_is_none_is_refused(admin: Caller) -> None:
    (error,) = problem(admin.get("training-runs?phse=failed"), 422)["errors"]
    assert error == {"field": "phse", "detail": error["detail"], "fix": "Did you mean “phase”?"}
    problem(admin.get("training-runs?created_after=yesterday"), 422)
    problem(admin.get("datasets?limit=0"), 422)
    problem(admin.get("datasets?cursor=nonsense"), 422)
    problem(admin.get("datasets?cursor=cD1hYmM="), 422)


def test_too_many_posts_have_to_wait(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.core.api.views import PostsPerMinute

    monkeypatch.setattr(PostsPerMinute, "rate", "2/min")
    for number in range(2):
        assert admin.post("datasets", {"name": f"d{number}"}).status_code == 201
    answer = admin.post("datasets", {"name": "d2"})
    assert "later" in problem(answer, 429)["detail"] and int(answer.headers["Retry-After"]) > 0
    assert admin.get("datasets").status_code == 200
