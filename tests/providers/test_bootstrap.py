"""The first program of a machine, run with a recording `curl`, `k3s` and `systemctl`: what it does, and that the
certificates that it leaves are those that we trust and are trusted by."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.clouds.api_server import ApiServer
from workers.providers.bootstrap import INSTALLER, K3S_VERSION, LARGEST_BYTES, addressed, make_credentials, scripts
from workers.providers.ec2 import EC2
from workers.targets.kubernetes.access import Access
from workers.targets.kubernetes.client import Client

CURL = """#!/bin/bash
echo "curl $*" >>"$RECORD"
for last; do :; done
case "$last" in
  */api/token) echo TOKEN-OF-METADATA ;;
  */public-ipv4) echo 203.0.113.9 ;;
  *) while [ "$1" != -o ]; do shift; done
     printf '%s\\n' 'echo "install $INSTALL_K3S_VERSION" >>"$RECORD"' 'k3s $INSTALL_K3S_EXEC' \\
       'systemctl enable --now k3s' >"$2" ;;
esac
"""


@pytest.fixture(scope="module")
def credentials() -> dict[str, Any]:
    return make_credentials("cls-x")


def run(script: str, folder: Path) -> list[str]:
    """Its record: the calls of the programs in its path, in order."""
    programs, root, record = folder / "bin", folder / "root", folder / "record"
    programs.mkdir()
    root.mkdir()
    for name in ("k3s", "systemctl"):
        (programs / name).write_text(f'#!/bin/bash\necho "{name} $*" >>"$RECORD"\n')
    (programs / "curl").write_text(CURL)
    for program in programs.iterdir():
        program.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    environment = {"PATH": path, "WINDLASS_ROOT": str(root), "RECORD": str(record)}
    done = subprocess.run(["bash"], input=script, text=True, env=environment, capture_output=True, check=False)
    log = root / "var/log/windlass-bootstrap.log"
    assert done.returncode == 0, log.read_text()
    assert done.stdout + done.stderr == ""
    return record.read_text().splitlines()


def test_the_server(credentials: dict[str, Any], tmp_path: Path) -> None:
    script = scripts(credentials, 1, EC2.own_address)[0]
    record = run(script, tmp_path)
    assert "PUT" in record[0] and record[0].endswith("/api/token")
    assert "X-aws-ec2-metadata-token: TOKEN-OF-METADATA" in record[1]
    assert record[2].endswith(INSTALLER) and K3S_VERSION.replace("+", "%2B") in INSTALLER
    assert record[3:] == [f"install {K3S_VERSION}", "k3s server", "systemctl enable --now k3s"]

    root = tmp_path / "root"
    wanted = yaml.safe_load((root / "etc/rancher/k3s/config.yaml").read_text())
    assert wanted["tls-san"] == ["203.0.113.9"] and wanted["node-external-ip"] == "203.0.113.9"
    assert (wanted["token"], wanted["agent-token"]) == (credentials["token"], credentials["agent_token"])
    tls = root / "var/lib/rancher/k3s/server/tls"
    names = {"server", "client", "request-header"}
    assert {path.name for path in tls.iterdir()} == {f"{name}-ca.{kind}" for name in names for kind in ("crt", "key")}
    for path in (*tls.iterdir(), root / "etc/rancher/k3s/config.yaml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for name in names:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / f"{name}-ca.crt", tls / f"{name}-ca.key")  # they belong together


def test_our_client_certificate_is_of_the_authority_that_it_leaves(credentials: dict[str, Any], tmp_path: Path) -> None:
    run(scripts(credentials, 1, EC2.own_address)[0], tmp_path)
    left = (tmp_path / "root/var/lib/rancher/k3s/server/tls/client-ca.crt").read_bytes()
    authority = x509.load_pem_x509_certificate(left)
    ours = x509.load_pem_x509_certificate(credentials["client"]["certificate"].encode())
    ours.verify_directly_issued_by(authority)
    assert ours.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:masters"


def test_an_api_with_these_authorities_and_we_take_each_other(credentials: dict[str, Any]) -> None:
    api = ApiServer(credentials, "127.0.0.1", 1, port=0)
    try:
        server = f"https://127.0.0.1:{api.server.server_address[1]}"
        authority, client = credentials["authorities"]["server"]["certificate"], credentials["client"]
        access = Access(server, authority, client["certificate"], client["key"])
        assert Client(access).get("/api/v1/nodes")["kind"] == "NodeList"
        other = make_credentials("cls-y")
        with pytest.raises(Exception, match=r"(?i)certificate|tls|ssl"):
            stranger = other["authorities"]["server"]["certificate"]
            Client(Access(server, stranger, client["certificate"], client["key"])).get("/api/v1/nodes")
    finally:
        api.close()


def test_an_agent_joins_the_server_that_it_can_tell(credentials: dict[str, Any], tmp_path: Path) -> None:
    script = addressed(scripts(credentials, 2, EC2.own_address)[1], "10.20.0.4")
    record = run(script, tmp_path)
    assert record[1:] == [f"install {K3S_VERSION}", "k3s agent", "systemctl enable --now k3s"]
    wanted = yaml.safe_load((tmp_path / "root/etc/rancher/k3s/config.yaml").read_text())
    assert wanted["server"] == "https://10.20.0.4:6443"
    # k3s keeps a lone authority's file as it stands, and hashes its bytes
    folder = tmp_path / "server"
    folder.mkdir()
    run(scripts(credentials, 1, EC2.own_address)[0], folder)
    kept = (folder / "root/var/lib/rancher/k3s/server/tls/server-ca.crt").read_bytes()
    assert wanted["token"] == f"K10{hashlib.sha256(kept).hexdigest()}::node:{credentials['agent_token']}"
    secrets = [credentials["token"], *(pair["key"] for pair in credentials["authorities"].values())]
    assert not [secret for secret in secrets if secret in script]  # an agent can't become the server


def test_no_secret_is_told(credentials: dict[str, Any], tmp_path: Path) -> None:
    record = run(scripts(credentials, 1, EC2.own_address)[0], tmp_path)
    log = (tmp_path / "root/var/log/windlass-bootstrap.log").read_text()
    told = "\n".join([log, *record])
    assert credentials["token"] not in told and credentials["agent_token"] not in told and "PRIVATE" not in told
    assert "k3s server was installed" in log


def test_it_is_the_same_each_time_and_small_enough(credentials: dict[str, Any]) -> None:
    again = json.loads(json.dumps(credentials))
    first, second = scripts(credentials, 20, EC2.own_address), scripts(again, 20, EC2.own_address)
    assert first == second and len(first) == 20
    assert max(len(script.encode()) for script in first) < LARGEST_BYTES / 2
