"""The inference server: one replica of a deployment, `python -m workers.serving`.

Settings (environment): WINDLASS_MODEL, WINDLASS_DEPLOYMENT ("workspace/deployment"), WINDLASS_REVISION,
WINDLASS_LISTEN_FD or WINDLASS_PORT, WINDLASS_THREADS (1), WINDLASS_MAX_QUEUE (256), WINDLASS_MAX_BODY_BYTES (64 MiB),
WINDLASS_MAX_BUFFERED_BYTES (4 times that), WINDLASS_DRAIN_SECONDS (1). Inputs: model.onnx and signature.json in
WINDLASS_IN; keys: auth.json in WINDLASS_LIVE; counts go to the file WINDLASS_METRICS.

Beyond the Open Inference Protocol v2, an answer's `parameters` may hold `labels` (the class with the largest value of
the output `logits`, for each item, where signature.json has classes) and `non_finite` (by output, how many values are
not finite; they are null in JSON). Answers carry `x-windlass-revision`, those of predictions `server-timing` (auth,
queue and model in milliseconds). The way of a request: transport (HTTP) -> app (routes, keys) ->
scheduler (now or in the thread) -> protocol (bytes to arrays) -> engine -> protocol -> transport.
"""
