"""The Content-Security-Policy of every page: only what this installation itself serves."""

from typing import Any

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest, HttpResponseBase

# Pages that other packages bring, and what these cannot do without. No inline script anywhere.
LOOSER: dict[str, dict[str, Any]] = {
    "/admin/": {"script-src": [UNSAFE_EVAL], "style-src": [UNSAFE_INLINE]},  # Alpine inside Unfold
    "/api/docs/": {"style-src": [UNSAFE_INLINE]},  # Swagger UI sets style attributes
}


def content_security_policy() -> dict[str, Any]:
    """The value of CONTENT_SECURITY_POLICY: nothing inline, nothing evaluated, nothing from elsewhere."""
    return {
        "DIRECTIVES": {
            "default-src": [SELF],
            "script-src": [SELF],
            "style-src": [SELF],
            "img-src": [SELF, "data:"],
            "connect-src": [SELF],
            "object-src": [NONE],
            "base-uri": [NONE],
            "form-action": [SELF],
            "frame-ancestors": [NONE],
        }
    }


class PolicyMiddleware(CSPMiddleware):
    """The strict policy, loosened only below the paths in LOOSER."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        for prefix, directives in LOOSER.items():
            if request.path_info.startswith(prefix) and parts.update is None:
                parts.update = directives
        return parts
