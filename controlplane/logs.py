"""How every process of Windlass logs: one line a record, to stderr, with the time in UTC."""

import logging
import time


class LineFormatter(logging.Formatter):
    """`2026-11-25T01:02:03.123Z INFO  workers.engine message`; a traceback follows, indented.

    Line breaks inside a message are escaped, so that what a user typed can never look like a record of its own.
    """

    @staticmethod
    def converter(timestamp: float | None = None) -> time.struct_time:
        return time.gmtime(timestamp)

    def __init__(self) -> None:
        super().__init__("{asctime}.{msecs:03.0f}Z {levelname:<7} {name} {message}", "%Y-%m-%dT%H:%M:%S", style="{")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)

    def formatException(self, ei: "logging._SysExcInfoType") -> str:
        return "    " + super().formatException(ei).replace("\n", "\n    ")


def logging_settings(level: str) -> dict[str, object]:
    """The value of Django's LOGGING."""
    quiet = (
        "django.security.DisallowedHost",
        "kombu",
        "amqp",
        "redis",
        "urllib3",
        "botocore",
        "celery.utils.functional",
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": "controlplane.logs.LineFormatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django": {"handlers": [], "propagate": True},
            "django.server": {"handlers": [], "propagate": True},
            **{name: {"level": "WARNING" if level != "DEBUG" else level} for name in quiet},
        },
    }
