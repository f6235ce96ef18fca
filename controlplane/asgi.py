"""The web process: `uvicorn controlplane.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
# Requests run in many short-lived threads here, where a connection kept by its thread would leak: a pool is right.
os.environ.setdefault("WINDLASS_PROCESS", "web")

application = get_asgi_application()
