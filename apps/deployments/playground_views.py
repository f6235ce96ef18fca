"""The playground's one act: sending what was drawn, picked or written, and showing the answer."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse

from apps.core.pages import rows
from apps.deployments import deployment_page, playground
from apps.deployments.models import Deployment, Revision
from apps.deployments.playground_page import answering, best_class, playground_context, time_split
from apps.deployments.views import DeploymentsPage, delete_dialog, head


class Predict(DeploymentsPage):
    """Sends what was drawn, picked or written to the deployment, and shows what it answered."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, deployment_id: str) -> HttpResponse:
        row = self.deployment(deployment_id)
        revisions = self.revisions(row)
        revision = answering(row, revisions)
        context = playground_context(self, row, revisions)
        truth = None
        try:
            if revision is None or row.phase in {"stopped", "stopping", "failed"}:
                raise playground.NotSent("It is not serving. Start it, then ask again.")
            body, truth = self.request_body(revision, context)
            answer = playground.send(row, revision, body)
            context |= self.answered(row, revision, body, answer, truth)
        except playground.NotSent as problem:
            context["answer_error"] = str(problem)
        context["given"] = request.POST.get("tensor") or context["given"]
        context["pixels"] = request.POST.get("pixels", "")
        return self.page(
            "deployments/deployment.html",
            head(self, row, "playground"),
            deployment=row,
            tab="playground",
            live=rows.live(row),
            address=self.address(row),
            dialog=delete_dialog(row, self.address(row)),
            **context,
        )

    def request_body(self, revision: Revision, context: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """The body, and the sample that it is made of, if it is one."""
        post, signature = self.request.POST, revision.export.signature
        if "tensor" in post:
            return playground.parse(post["tensor"]), None
        if playground.picture_size(signature) is None:
            raise playground.NotSent("This model takes no drawing. Write the tensor instead.")
        picked = next((item for item in context["picks"] if str(item["index"]) == post.get("pick")), None)
        if picked is not None:
            return playground.picture_request(signature, picked["values"]), picked
        return playground.picture_request(signature, self.drawn(signature)), None

    def drawn(self, signature: dict[str, Any]) -> list[float]:
        height, width = playground.picture_size(signature) or (0, 0)
        try:
            values = json.loads(self.request.POST.get("pixels") or "null")
        except ValueError:
            values = None
        if not isinstance(values, list) or len(values) != height * width:
            raise playground.NotSent("Nothing was drawn yet. Draw with the pointer, or pick an image below.")
        if not all(isinstance(value, int | float) for value in values) or not any(values):
            raise playground.NotSent("The picture is empty. Draw with the pointer, or pick an image below.")
        return values

    def answered(
        self, row: Deployment, revision: Revision, body: dict[str, Any], answer: playground.Answer, truth: Any
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"calls": deployment_page.calls(row, revision, body), "answer": answer}
        if answer.error:
            return {**found, "answer_error": answer.error}
        found["answer_json"] = json.dumps(answer.body, indent=1)[:20_000]
        found["times"] = time_split(answer)
        classes = revision.export.signature.get("classes") or []
        output = (answer.body.get("outputs") or [{}])[0]
        data, shape = output.get("data") or [], output.get("shape") or []
        if classes and shape[-1:] == [len(classes)] and len(data) >= len(classes):
            found |= best_class(classes, playground.probabilities(data[: len(classes)]), truth)
        return found
