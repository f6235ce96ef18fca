"""Making a graph smaller: weights to 8 bits."""

from __future__ import annotations

import logging
from pathlib import Path

from workers.inspection.program import Refused


def dynamic_int8(source: Path, target: Path) -> None:
    """Weights to uint8, activations when they pass. Unsigned, as onnxruntime has no signed convolution that is fast.

    Raises Refused where nothing in the graph can be made smaller.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it advises a step that the exporter has done already
    try:
        quantize_dynamic(source, target, weight_type=QuantType.QUInt8)
    finally:
        logging.disable(logging.NOTSET)
    if target.stat().st_size >= source.stat().st_size:
        raise Refused(
            "NothingToQuantize",
            "Dynamic int8 makes this model no smaller: it has too few weights in matrix products and convolutions. "
            'Export it with the optimisation "none".',
        )


OPTIMISERS = {"dynamic_int8": dynamic_int8}
