"""Where the objects of a placement are in the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Paths:
    namespace: str

    @property
    def itself(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}"

    @property
    def pods(self) -> str:
        return f"{self.itself}/pods"

    @property
    def cards(self) -> str:
        return f"{self.itself}/configmaps"

    @property
    def jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    @property
    def deployments(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments"

    def pod(self, name: str) -> str:
        return f"{self.pods}/{name}"

    def card(self, name: str) -> str:
        return f"{self.cards}/{name}"

    def job(self, name: str) -> str:
        return f"{self.jobs}/{name}"

    def deployment(self, name: str) -> str:
        return f"{self.deployments}/{name}"

    def secret(self, name: str) -> str:
        return f"{self.itself}/secrets/{name}"

    def service(self, name: str) -> str:
        return f"{self.itself}/services/{name}"

    def budget(self, name: str) -> str:
        return f"/apis/policy/v1/namespaces/{self.namespace}/poddisruptionbudgets/{name}"

    def of(self, item: dict[str, Any]) -> str:
        kinds = {
            "Job": self.job,
            "Deployment": self.deployment,
            "Service": self.service,
            "PodDisruptionBudget": self.budget,
            "Secret": self.secret,
        }
        return kinds[item["kind"]](item["metadata"]["name"])
