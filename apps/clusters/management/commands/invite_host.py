"""Invite another machine to join as a host: prints the one command that is typed there."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.clusters.joining import INVITATION, door_address, invite_host
from apps.core.actor import Actor
from apps.core.errors import Conflict, Invalid


class Command(BaseCommand):
    help = "Invite another machine to join as a host, once, within an hour."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the name that the host will have")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            invited = invite_host(options["name"], Actor("operator", getpass.getuser()))
        except Conflict as error:
            raise CommandError(error.detail) from error
        except Invalid as error:
            raise CommandError(str(error.errors[0])) from error
        if (address := door_address()).startswith("127."):
            self.stderr.write(
                f"Only this machine reaches its own {address}. For others start Windlass with "
                "WINDLASS_HOST_ADDRESS=<this machine's address in your network>, then invite again."
            )
        minutes = INVITATION.total_seconds() / 60
        self.stderr.write(
            f"Once, within {minutes:.0f} minutes, in a checkout of this version on the other machine (ADDRESS=<its own "
            "address in your network>, where the one that it reaches this machine from is not the right one):"
        )
        self.stdout.write(invited.command)
