"""From WINDLASS_STORAGE to Django's STORAGES; the SDK of a cloud is imported only when it is the one in use."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from controlplane.configuration import ELSEWHERE

FILES = "django.core.files.storage.FileSystemStorage"


def storage_settings(url: str, directory: Path) -> dict[str, Any]:
    """One entry of STORAGES. Credentials come from where each SDK looks for them, never from the URL."""
    if not url:
        return {
            "BACKEND": FILES,
            "OPTIONS": {
                "location": str(directory),
                "allow_overwrite": True,
                "file_permissions_mode": 0o600,
                "directory_permissions_mode": 0o700,
            },
        }
    if url == ELSEWHERE:
        return {"BACKEND": "controlplane.elsewhere.Elsewhere"}
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    options: dict[str, Any]
    if parts.scheme == "s3":
        options = {
            "bucket_name": parts.netloc,
            "location": prefix,
            "default_acl": None,
            "file_overwrite": True,
            "signature_version": "s3v4",  # the older one signs neither sizes nor regions
        }
        return {"BACKEND": "apps.registry.s3.S3Store", "OPTIONS": options}
    if parts.scheme == "gs":
        options = {"bucket_name": parts.netloc, "location": prefix, "file_overwrite": True}
        return {"BACKEND": "storages.backends.gcloud.GoogleCloudStorage", "OPTIONS": options}
    options = {"azure_container": parts.netloc, "location": prefix, "overwrite_files": True}
    return {"BACKEND": "storages.backends.azure_storage.AzureStorage", "OPTIONS": options}
