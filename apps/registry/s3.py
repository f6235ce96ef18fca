"""Blobs in S3, or in what speaks its language, with rights that can be given away for a while.

Only loaded where WINDLASS_STORAGE names a bucket.
"""

from __future__ import annotations

from typing import Any

from storages.backends.s3 import S3Storage

# The signature ends with the credentials that made it, which on a cloud's machine live for hours only.
LIFETIMES_SECONDS = (24 * 3600, 12 * 3600, 6 * 3600, 3600, 900)


class S3Store(S3Storage):
    def lifetime_seconds(self) -> int:
        """How long an address that is signed now lasts."""
        credentials = self.connection.meta.client._get_credentials()  # botocore has no public word for it
        runs_out = getattr(credentials, "refresh_needed", lambda _seconds: False)
        return next((seconds for seconds in LIFETIMES_SECONDS if not runs_out(seconds)), LIFETIMES_SECONDS[-1])

    def address_to_read(self, name: str, seconds: int) -> str:
        return self._signed("get_object", name, seconds)

    def address_to_write(self, name: str, seconds: int, size_bytes: int) -> str:
        """Takes one PUT of exactly so many bytes."""
        return self._signed("put_object", name, seconds, ContentLength=size_bytes)

    def _signed(self, call: str, name: str, seconds: int, **more: Any) -> str:
        wanted = {"Bucket": self.bucket_name, "Key": self._normalize_name(name), **more}
        address: str = self.connection.meta.client.generate_presigned_url(call, Params=wanted, ExpiresIn=seconds)
        return address
