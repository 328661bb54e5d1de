"""An exported model in 8-bit integers: its convolutions and heads, by ranges measured on crops."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from core.files import replacing
from serving.onnx_model import INPUT

QUANTISED = ("Conv", "Gemm", "Clip", "Relu", "Add")
"""Kinds of nodes that are turned to integers; resizing and normalisation stay in floats. With the activations among
them, a convolution's integers span what its activation lets through, and are not spent on what it cuts off."""
BATCH = 8


class CropReader(CalibrationDataReader):
    """Gives onnxruntime crops (N, h, w, 3) uint8, a few at a time."""

    def __init__(self, crops: np.ndarray) -> None:
        self._batches = self._in_turn(crops)

    @staticmethod
    def _in_turn(crops: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(crops), BATCH):
            yield {INPUT: crops[start : start + BATCH]}

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def write_int8(path: Path, source: Path, crops: np.ndarray, in_floats: Sequence[str] = ()) -> None:
    """Write `source` quantised to `path`, with its metadata; `crops` (N, h, w, 3) uint8 show what values occur.

    Whatever the tasks `in_floats` are computed from keeps its weights and computes in floats, also where other tasks
    share it. Pixels that they share are rounded to 8 bits, which is what they came from.
    """
    about = onnx.load(source, load_external_data=False).metadata_props
    with replacing(path) as aside, TemporaryDirectory() as folder:
        prepared = Path(folder) / source.name
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(aside),
            CropReader(crops),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=nodes_behind(onnx.load(prepared), in_floats),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        model = onnx.load(aside)
        for entry in about:
            if entry.key not in {kept.key for kept in model.metadata_props}:
                model.metadata_props.add(key=entry.key, value=entry.value)
        onnx.save(model, aside)


def nodes_behind(model: onnx.ModelProto, tasks: Sequence[str]) -> list[str]:
    """Names of the nodes that the outputs of these tasks (the task's name, or with `_` and a unit) depend on."""
    outputs = [output.name for output in model.graph.output]
    needed = {name for name in outputs for task in tasks if name == task or name.startswith(f"{task}_")}
    names = []
    # A graph lists its nodes after those that they need.
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            names.append(node.name)
    return names
