"""An Idempotency-Key does the work once and answers the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.core.models import IdempotencyRecord
from apps.registry.models import Dataset
from tests.api.conftest import Caller

pytestmark = pytest.mark.django_db


def test_the_same_again_is_answered_the_same_and_done_once(developer: Caller) -> None:
    first = developer.post("datasets", {"name": "flowers"}, Idempotency_Key="k1")
    again = developer.post("datasets", {"name": "flowers"}, Idempotency_Key="k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true" and "Idempotent-Replayed" not in first.headers
    assert Dataset.objects.count() == 1


def test_another_body_under_the_same_key_is_refused(developer: Caller) -> None:
    developer.post("datasets", {"name": "flowers"}, Idempotency_Key="k1")
    answer = developer.post("datasets", {"name": "trees"}, Idempotency_Key="k1")
    assert (answer.status_code, answer.json()["code"]) == (422, "IdempotencyKeyReused")
    assert Dataset.objects.count() == 1


def test_keys_of_two_callers_are_two(developer: Caller, admin: Caller) -> None:
    assert developer.post("datasets", {"name": "flowers"}, Idempotency_Key="k1").status_code == 201
    answer = admin.post("datasets", {"name": "flowers"}, Idempotency_Key="k1")
    assert (answer.status_code, answer.json()["code"]) == (409, "NameTaken")


def test_a_refusal_is_answered_again_too(developer: Caller) -> None:
    for _ in range(2):
        answer = developer.post("datasets", {"name": "Bad Name"}, Idempotency_Key="k1")
        assert answer.status_code == 422
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Idempotent-Replayed"] == "true"


def test_a_mistake_of_ours_is_not_kept(developer: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        Dataset.objects.create(workspace_id=Dataset.objects.none().values("workspace"), name="x")

    with monkeypatch.context() as patch:
        patch.setattr("apps.registry.services.create_dataset", broken)
        developer.client.raise_request_exception = False
        assert developer.post("datasets", {"name": "flowers"}, Idempotency_Key="k1").status_code == 500
    assert not IdempotencyRecord.objects.exists()
    assert developer.post("datasets", {"name": "flowers"}, Idempotency_Key="k1").status_code == 201


def test_while_the_first_is_at_work_the_second_waits(developer: Caller) -> None:
    developer.post("datasets", {"name": "flowers"}, Idempotency_Key="k1")
    IdempotencyRecord.objects.update(status=0)
    answer = developer.post("datasets", {"name": "flowers"}, Idempotency_Key="k1")
    assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (409, "InProgress", "1")


def test_a_request_whose_process_died_can_be_sent_again(developer: Caller) -> None:
    developer.post("datasets", {"name": "flowers"}, Idempotency_Key="k1")
    Dataset.objects.all().delete()  # what a rolled back transaction leaves
    IdempotencyRecord.objects.update(status=0, created_at=timezone.now() - timedelta(minutes=5))
    assert developer.post("datasets", {"name": "flowers"}, Idempotency_Key="k1").status_code == 201
    assert Dataset.objects.count() == 1


def test_after_a_day_a_key_is_new_again(developer: Caller) -> None:
    developer.post("datasets", {"name": "flowers"}, Idempotency_Key="k1")
    IdempotencyRecord.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert developer.post("datasets", {"name": "trees"}, Idempotency_Key="k1").status_code == 201


def test_a_new_key_is_answered_again_and_stands_nowhere_in_plain(admin: Caller) -> None:
    first = admin.post("api-keys", {"name": "ci"}, Idempotency_Key="k1")
    again = admin.post("api-keys", {"name": "ci"}, Idempotency_Key="k1")
    assert first.json()["key"] == again.json()["key"]
    assert first.json()["key"] not in str(IdempotencyRecord.objects.values_list().get())


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_key_that_is_none(developer: Caller, key: str) -> None:
    assert developer.post("datasets", {"name": "flowers"}, Idempotency_Key=key).status_code == 400


def test_every_post_takes_one(as_role: Callable[..., Caller]) -> None:
    caller = as_role("admin")
    for path, body in (("secrets", {"name": "a", "value": "b"}), ("api-keys", {"name": "c"})):
        caller.post(path, body, Idempotency_Key="k1")
        assert caller.post(path, body, Idempotency_Key="k1").headers["Idempotent-Replayed"] == "true"
