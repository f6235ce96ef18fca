"""What a finished run leaves: weights, configuration, reference graph, signature and figures, each whole."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from workers.training.atomic import replace_file, written_whole
from workers.training.failure import Failure

# Of the largest output; sums in another order differ by about 1e-6.
LARGEST_RELATIVE_DIFFERENCE = 1e-4


def write_outputs(
    out: Path,
    module: nn.Module,
    config: dict[str, Any],
    signature: dict[str, Any],
    figures: dict[str, float],
    examples: Tensor,
) -> None:
    """`module` on the CPU in evaluation mode; `examples`: inputs [at least 2, ...] to compare the graph with.

    `metrics.json` comes last: where it is, all is there. Raises Failure if the graph does not compute the same.
    """
    with written_whole(out / "model.safetensors") as path:
        save_file({name: value.contiguous() for name, value in module.state_dict().items()}, path)
    _write_json(out / "config.json", config)
    _write_json(out / "signature.json", signature)
    with written_whole(out / "reference.onnx") as path:
        write_graph(path, module, signature, examples)
        difference = compare_graph(path, module, examples)
    _write_json(out / "metrics.json", figures | {"reference_max_difference": difference})


def write_graph(path: Path, module: nn.Module, signature: dict[str, Any], examples: Tensor) -> None:
    """A checked ONNX graph with a dynamic batch axis and the signature's names."""
    import onnx

    # It says for each of another package's operators that the package is not there.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    # Two items: an exporter takes an axis of length 1 for a constant.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the exporter about itself
        program = torch.onnx.export(
            module,
            (examples[:2],),
            dynamo=True,
            input_names=[item["name"] for item in signature["inputs"]],
            output_names=[item["name"] for item in signature["outputs"]],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=False)
    onnx.checker.check_model(path, full_check=True)


def compare_graph(path: Path, module: nn.Module, examples: Tensor) -> float:
    """The largest difference of the graph's outputs from the module's. Raises Failure if it is too large."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    worst = 0.0
    for items in (examples[:1], examples):
        with torch.inference_mode():
            expected = module(items).numpy()
        computed = session.run(None, {session.get_inputs()[0].name: items.numpy()})[0]
        difference = float(np.abs(computed - expected).max())
        if not difference <= LARGEST_RELATIVE_DIFFERENCE * max(1.0, float(np.abs(expected).max())):
            raise Failure(
                "ReferenceGraph",
                f"The ONNX graph's outputs differ from the model's by up to {difference:g}. The model's weights and "
                "checkpoint are kept. Please report this with the run's configuration.",
            )
        worst = max(worst, difference)
    return worst


def _write_json(path: Path, content: dict[str, Any]) -> None:
    replace_file(path, json.dumps(content, indent=1).encode())
