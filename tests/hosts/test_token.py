"""An invitation is one word that survives being copied, and says so when it did not."""

from __future__ import annotations

import pytest

from apps.clusters.joining import _token
from apps.core.certificates import fingerprint, make_authority
from controlplane.join import JoinFailed, Token


def made() -> tuple[str, str]:
    certificate = make_authority("test").certificate
    return _token("10.0.0.5:8443", certificate, b"s" * 32), fingerprint(certificate)


def test_it_says_where_the_door_is_and_how_it_is_known() -> None:
    text, checksum = made()
    token = Token.read(f"  {text}\n")
    assert (token.door, token.authority_sha256) == ("10.0.0.5:8443", checksum)
    assert "=" not in text and text.isascii()


@pytest.mark.parametrize("damage", [lambda t: t[:-7], lambda t: "", lambda t: "second", lambda t: t[4:]])
def test_a_part_of_it_is_told_from_the_whole(damage: object) -> None:
    with pytest.raises(JoinFailed, match="copy all of what make invite-host printed"):
        Token.read(damage(made()[0]))  # type: ignore[operator]
