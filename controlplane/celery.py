"""The Celery application: it only makes the next step happen sooner, the truth is in the rows."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

app = Celery("windlass")
app.config_from_object("django.conf:settings", namespace="CELERY")
