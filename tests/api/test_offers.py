"""Offers: machine types with a dated price, filtered by what is needed."""

from __future__ import annotations

import pytest

from tests.api.clouds import offer
from tests.api.conftest import Caller

pytestmark = pytest.mark.django_db


def test_they_are_filtered_by_what_is_needed(viewer: Caller) -> None:
    offer("m7i.large", 2, 0.12)
    offer("m7i.4xlarge", 16, 0.97)
    offer("g6.xlarge", 4, 0.99, gpus=1, region="us-east-1")

    def types(query: str) -> set[str]:
        return {item["machine_type"] for item in viewer.get(f"offers?{query}").json()["items"]}

    assert types("") == {"m7i.large", "m7i.4xlarge", "g6.xlarge"}
    assert types("cpus_at_least=4") == {"m7i.4xlarge", "g6.xlarge"}
    assert types(f"memory_bytes_at_least={64 * 1024**3}") == {"m7i.4xlarge"}
    assert types("gpus_at_least=1&region=us-east-1&provider=ec2") == {"g6.xlarge"}
    assert types("region=eu-west-1") == set()
    (one,) = viewer.get("offers?machine_type=m7i.large").json()["items"]
    assert (one["price_usd_per_hour"], one["as_of"]) == (0.12, "2026-11-01")
    assert viewer.get("offers?cpus=4").status_code == 422
