"""The console's looser policy holds below /admin/ only, and still lets no inline script run."""

from __future__ import annotations

from django.test import Client


def policy(client: Client, address: str) -> dict[str, str]:
    header = client.get(address).headers["Content-Security-Policy"]
    return dict(part.strip().split(" ", 1) for part in header.split(";") if " " in part.strip())


def test_the_console_may_evaluate_but_not_inline(root: Client) -> None:
    found = policy(root, "/admin/")
    assert found["script-src"] == "'self' 'unsafe-eval'"
    assert found["style-src"] == "'self' 'unsafe-inline'"
    assert found["frame-ancestors"] == "'none'"


def test_nothing_else_is_loosened(root: Client) -> None:
    for address in ("/accounts/login/", "/adminx/", "/x/admin/"):
        found = policy(Client(), address)
        assert found["script-src"] == found["style-src"] == "'self'", address
