"""How allauth behaves here."""

from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class Adapter(DefaultAccountAdapter):
    """Nobody signs up by themselves: an admin of a workspace lets people in."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False
