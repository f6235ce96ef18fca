"""A kubeconfig is data: what would run, read a file or reach our own network is refused, and says what to do."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml

from apps.clusters.kubeconfig import check_kubeconfig
from apps.core.certificates import issue, make_authority

AUTHORITY = make_authority("test")
CLIENT = issue(AUTHORITY, "us", server=False, days=1)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def kubeconfig(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **more: Any) -> str:
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": "https://kube.example.org:6443/",
                    "certificate-authority-data": encoded(AUTHORITY.certificate),
                    **(cluster or {}),
                },
            }
        ],
        "users": [{"name": "u", "user": {"token": "abc"} if user is None else user}],
        **more,
    }
    return yaml.safe_dump(content)


def test_a_token_and_a_client_certificate_are_taken() -> None:
    found = check_kubeconfig(kubeconfig())
    assert found == {
        "server": "https://kube.example.org:6443",
        "authority": AUTHORITY.certificate,
        "certificate": "",
        "key": "",
        "token": "abc",
    }
    certified = {
        "client-certificate-data": encoded(CLIENT.certificate),
        "client-key-data": encoded(CLIENT.key),
    }
    assert check_kubeconfig(kubeconfig(user=certified))["key"] == CLIENT.key


def test_json_is_yaml_too_and_one_context_needs_no_name() -> None:
    content = yaml.safe_load(kubeconfig())
    del content["current-context"]
    assert check_kubeconfig(yaml.safe_dump(content))["token"] == "abc"


@pytest.mark.parametrize(
    ("cluster", "user", "says"),
    [
        ({}, {"exec": {"command": "aws", "args": ["eks", "get-token"]}}, "starts a program"),
        ({}, {"auth-provider": {"name": "gcp"}}, "starts a program"),
        ({}, {"username": "a", "password": "b"}, "password in the clear"),
        ({}, {"tokenFile": "/etc/passwd"}, "a file on a machine that is not ours"),
        ({}, {"token": "abc", "tokenFile": "/etc/passwd"}, "“tokenFile”"),
        ({}, {"client-certificate": "/x", "client-key": "/y"}, "“client-certificate”"),
        ({}, {"client-certificate-data": encoded(CLIENT.certificate)}, "needs both"),
        ({}, {"client-certificate-data": "%%", "client-key-data": "%%"}, "no certificate in PEM"),
        ({}, {}, "neither a token nor"),
        ({}, {"token": "a\r\nX-Evil: b"}, "in one line"),
        ({}, {"token": "abc", "as": "system:admin"}, "acts as somebody else"),
        ({"certificate-authority": "/etc/ca.pem"}, None, "“certificate-authority”, a file"),
        ({"insecure-skip-tls-verify": True}, None, "skips the check"),
        ({"proxy-url": "http://10.0.0.1:3128"}, None, "proxy"),
        ({"tls-server-name": "other"}, None, "another name"),
        ({"server": "http://kube.example.org"}, None, "no https:// address"),
        ({"server": "https://user:pass@kube.example.org"}, None, "more in it"),
        ({"server": "https://[::1"}, None, "no address"),
        ({"server": "file:///etc/passwd"}, None, "no https:// address"),
        ({"server": 7}, None, "names no server"),
    ],
)
def test_what_would_run_or_read_or_trust_too_much_is_refused(
    cluster: dict[str, Any], user: dict[str, Any] | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        check_kubeconfig(kubeconfig(cluster, user))


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        ("[::1]", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("[::]", "unspecified"),
        ("169.254.169.254", "link-local"),
        ("[fe80::1]", "link-local"),
        ("10.1.2.3", "private"),
        ("192.168.1.1", "private"),
        ("172.16.0.9", "private"),
        ("100.64.0.1", "private"),
        ("[fd00::1]", "private"),
        ("224.0.0.1", "multicast"),
        ("[::ffff:10.0.0.1]", "disguise"),
        ("[::ffff:8.8.8.8]", "disguise"),
        ("[64:ff9b::a00:1]", "disguise"),
        ("[2002:0a00:0001::1]", "disguise"),
    ],
)
def test_addresses_around_us_are_refused_and_the_setting_is_named(host: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"is .*{kind}.*WINDLASS_ALLOWED_PRIVATE_CIDRS="):
        check_kubeconfig(kubeconfig({"server": f"https://{host}:6443"}))


def test_an_administrator_can_allow_a_network(settings: Any) -> None:
    settings.WINDLASS_ALLOWED_PRIVATE_CIDRS = ("10.1.0.0/16",)
    assert check_kubeconfig(kubeconfig({"server": "https://10.1.2.3"}))["server"] == "https://10.1.2.3"
    with pytest.raises(ValueError, match="private"):
        check_kubeconfig(kubeconfig({"server": "https://10.2.0.1"}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no kubeconfig"),
        ("a: [", r"no YAML \(line"),
        ("!!python/object/apply:os.system [id]", "no YAML"),
        ("a: &a [x]\nb: [*a, *a]", "refers to parts of itself"),
        ("x" * 200_000, "larger than"),
        ("[" * 3000, "no YAML"),
        (kubeconfig(contexts=[]), "not among its contexts"),
        (kubeconfig(users=[]), "not among its users"),
        (kubeconfig(clusters="no"), "not among its clusters"),
        (kubeconfig(**{"current-context": ["x"]}), "not among its contexts"),
    ],
)
def test_what_is_no_kubeconfig_says_so(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_kubeconfig(text)


def test_two_contexts_need_a_current_one() -> None:
    content = yaml.safe_load(kubeconfig())
    del content["current-context"]
    content["contexts"] = [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in "ab"]
    with pytest.raises(ValueError, match="no current-context"):
        check_kubeconfig(yaml.safe_dump(content))
