"""What the door and a passage are told is what Envoy takes, and holds no way around a key."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from apps.core import certificates
from workers.door.door import SERVER_NAMES, Admitted, Behind, Identity, Plan, door_bootstrap, listeners
from workers.door.envoys import bootstrap
from workers.door.passage import Passage, passage_bootstrap, secret
from workers.gateway.bootstrap import envoy_command

HOSTS = (Admitted("0000-1", "ab" * 32), Admitted("0000-2", "cd" * 32))
VERSION = "f" * 64
BEHIND = Behind("/run/p.sock", "/run/v.sock", ("127.0.0.1", 8000))


@pytest.fixture
def identity() -> Identity:
    authority = certificates.make_authority("test")
    own = certificates.issue(authority, "door.windlass", names=SERVER_NAMES, server=True, days=1)
    return Identity(own.certificate, own.key, authority.certificate, "s" * 64)


def accepted(content: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(content))
    return subprocess.run([*envoy_command(path), "--mode", "validate"], capture_output=True, text=True)


def listener(identity: Identity, behind: Behind = BEHIND, hosts: tuple[Admitted, ...] = HOSTS) -> dict[str, Any]:
    found = json.loads(listeners(Plan("127.0.0.1", 8443, "10.0.0.5:8443", behind, VERSION), identity, hosts))[
        "resources"
    ][0]
    del found["@type"]
    return dict(found)


def test_envoy_takes_the_doors(identity: Identity, tmp_path: Path) -> None:
    clusters = door_bootstrap(BEHIND, "unused")["static_resources"]["clusters"]
    ran = accepted(bootstrap("door", clusters, [listener(identity)]), tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "admin" not in door_bootstrap(BEHIND, "unused"), "it would show the door's key"


def test_envoy_takes_a_passages(identity: Identity, tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_bytes(secret(identity.certificate, identity.key))
    services: list[tuple[str, str | int]] = [("web", 8000), ("postgres", str(tmp_path / ".s.PGSQL.5432"))]
    plan = Passage("0000-1", VERSION, ("10.0.0.5", 8443), identity.authority, str(tmp_path / "identity.json"), services)
    ran = accepted(passage_bootstrap(plan), tmp_path)
    assert ran.returncode == 0, ran.stderr


def test_each_name_but_joining_is_for_one_key(identity: Identity) -> None:
    chains = listener(identity)["filter_chains"]
    names = [chain["filter_chain_match"]["server_names"] for chain in chains]
    assert [name for name in names if "0000" not in name[0]] == [["join.windlass"]]
    assert len(names) == 1 + 3 * len(HOSTS) and all(len(name) == 1 for name in names)
    for chain in chains[1:]:
        context = chain["transport_socket"]["typed_config"]
        assert context["require_client_certificate"] is True
        check = context["common_tls_context"]["validation_context"]
        assert len(check["verify_certificate_spki"]) == 1 and check["trusted_ca"]
        assert context["disable_stateless_session_resumption"] and context["disable_stateful_session_resumption"]


def test_without_hosts_there_is_only_joining(identity: Identity) -> None:
    assert [chain["name"] for chain in listener(identity, hosts=())["filter_chains"]] == ["join.windlass"]


def test_services_elsewhere_are_not_passed_through(identity: Identity) -> None:
    behind = Behind("", "", ("127.0.0.1", 8000))
    names = [chain["name"] for chain in listener(identity, behind)["filter_chains"]]
    assert names == ["join.windlass", "0000-1-ffffffffffff.web.windlass", "0000-2-ffffffffffff.web.windlass"]


def test_one_hosts_part_is_the_same_whoever_else_joins(identity: Identity) -> None:
    """Envoy closes the connections of a chain that changed; another host's must live on."""
    alone = listener(identity, hosts=HOSTS[:1])["filter_chains"]
    both = listener(identity, hosts=HOSTS)["filter_chains"]
    assert alone == both[: len(alone)]
