"""The API's description: whole, without a warning, and readable in a browser without any network."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from controlplane import api_urls


def test_it_is_generated_without_a_warning_and_valid() -> None:
    GENERATOR_STATS.reset()
    with GENERATOR_STATS.silence():
        schema = SchemaGenerator().get_schema(request=None, public=True)
    assert not GENERATOR_STATS, GENERATOR_STATS._warn_cache
    validate_schema(schema)
    assert schema["openapi"].startswith("3.1")


def test_every_route_is_in_it() -> None:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    described = set(schema["paths"])
    for pattern in api_urls.urlpatterns:
        route = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
        if pattern.name not in {None, "api-schema", "api-docs"}:
            assert f"/api/v1/{route}" in described


def test_every_operation_tells_of_problems_and_has_its_own_name() -> None:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    assert all("default" in operation["responses"] for operation in operations)
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) > 60
    posts = [path["post"] for path in schema["paths"].values() if "post" in path]
    for operation in posts:
        assert "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}


@pytest.mark.django_db
def test_the_documentation_needs_nothing_from_elsewhere() -> None:
    client = Client()
    page = client.get("/api/v1/docs")
    policy = page.headers["Content-Security-Policy"]
    assert page.status_code == 200
    assert "http:" not in policy and "https:" not in policy and "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in re.search(r"script-src[^;]*", policy)[0]  # type: ignore[index]
    content = page.content.decode()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', content)
    assert addresses and not [address for address in addresses if "//" in address]
    assert not re.search(r"<script(?![^>]*src=)[^>]*>\s*\S", content)
    for address in addresses:
        answer = client.get(address.replace("&amp;", "&"))
        assert answer.status_code == 200, address
        answer.close()
    assert client.get("/api/v1/schema").json()["openapi"].startswith("3.1")
