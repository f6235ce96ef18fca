"""What a worker in a container takes: a folder that is free, the gateway it shares, and an address for its replicas."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from controlplane.configuration import Configuration
from controlplane.container import take_place


def test_each_worker_takes_the_first_folder_that_is_free(tmp_path: Path) -> None:
    first, held = take_place(tmp_path)
    second, other = take_place(tmp_path)
    assert (first.name, second.name) == ("worker-1", "worker-2")
    held.close()
    again, held = take_place(tmp_path)
    assert again == first
    held.close()
    other.close()


def test_workers_that_share_a_gateway_share_its_queue_and_its_socket() -> None:
    shared = Configuration(gateway="edge")
    assert shared.queues("h") == ["reconcile", "host:h", "gateway:edge"]
    assert shared.gateway_admin_socket == shared.var / "gateway/admin.sock"


@pytest.mark.parametrize("gateway", ["", "none"])
def test_others_consume_no_queue_of_a_gateway(gateway: str) -> None:
    alone = Configuration(gateway=gateway)
    assert alone.queues("h") == ["reconcile", "host:h"]
    assert alone.gateway_admin_socket == alone.run_directory / "gateway-admin.sock"


def test_a_host_is_reached_by_address_not_by_name() -> None:
    with pytest.raises(ValidationError, match="IPv4"):
        Configuration(host_address="worker")
