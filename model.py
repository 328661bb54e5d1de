"""Networks by name: any timm backbone with a linear head, and the source of its weights."""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import timm
import torch
from torch import Tensor, nn

from backbones import face_pair, face_resnet
from backbones.licences import refuse_licence
from backbones.packaged import PACKAGED_WEIGHTS, PackagedWeights
from backbones.ridge_head import BlendedHead, RidgeHead
from backbones.side_by_side import JOIN, Part, SideBySide, parts_of
from core.cli import UserError

LEAST_PRIOR = 1e-3
"""Initial probability of an output that no training photo has."""
HEAD_STD = 0.01
Descriptions = Mapping[str, Mapping[str, Any]]
"""What timm builds networks from whose names are of folders or of the hub: architecture, arguments, preprocessing."""
NOT_DESCRIBED: Descriptions = MappingProxyType({})
_OWN_HEADS = (face_resnet.NormalisedHead, face_pair.HiddenLayerHead)
"""Heads that take features as `OnPixels.features` gives them."""


def build_model(
    backbone: str,
    num_classes: int,
    *,
    image_size: tuple[int, int],
    pretrained: bool = False,
    drop_rate: float = 0.0,
    described: Descriptions = NOT_DESCRIBED,
) -> nn.Module:
    """Build a network from images (N, 3, H, W) to logits (N, num_classes).

    `image_size` is (H, W); only backbones with a fixed input size use it, and those side by side ("A+B"). UserError for
    an unknown backbone, and for weights that cannot be had. Folders and pages of the hub that are `described` are not
    asked for.
    """
    if is_side_by_side(backbone):
        options = {"pretrained": pretrained, "drop_rate": drop_rate, "described": described}
        return _build_side_by_side(backbone, num_classes, image_size, **options)
    options = {"img_size": image_size} if pretrained_config(backbone, described).fixed_input_size else {}
    name, given = _timm_name(backbone), {}
    if backbone in described:
        given = {key: value for key, value in described[backbone].items() if key != "pretrained_model_args"}
        name = given.pop("model_name")
    options = {**given, **options, "num_classes": num_classes, "drop_rate": drop_rate}
    build = partial(timm.create_model, name, **options)
    if not pretrained:
        model = build()
    elif backbone in PACKAGED_WEIGHTS:
        model = load_packaged(build(), PACKAGED_WEIGHTS[backbone])
    else:
        model = _build_downloaded(build, backbone)
    _init_small_head(model)
    return model


def is_side_by_side(backbone: str) -> bool:
    """Return whether the name is of several networks ("A+B"), or of one as a part of several ("+A")."""
    return JOIN in backbone


def _build_side_by_side(
    backbone: str, num_classes: int, size: tuple[int, int], *, drop_rate: float, **options: Any
) -> SideBySide:
    """Build each network at the size of its own pretraining; the width follows the aspect of the images, `size`."""
    parts = []
    for name in parts_of(backbone):
        config = pretrained_config(name, options["described"])
        height = config.input_size[1]
        own = height, max(1, round(height * size[1] / size[0]))
        # Random weights do not depend on what stands beside them.
        with torch.random.fork_rng():
            torch.manual_seed(torch.initial_seed())
            network = build_model(name, 1, image_size=own, **options)
        parts.append(Part(network, _head_on_features_name(network), own, config.mean, config.std))
    return SideBySide(parts, size, num_classes, drop_rate)


class OnPixels(nn.Module):
    """A network that normalises its input, pixels (N, 3, H, W) float of 0 to 255. It adds no weights."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network((pixels - self.mean) / self.std)

    def features(self, pixels: Tensor) -> Tensor:
        """Return the features (N, F) that the head takes."""
        maps = self.network.forward_features((pixels - self.mean) / self.std)
        return self.network.forward_head(maps, pre_logits=True)


def head_on_features(network: nn.Module) -> nn.Module:
    """Return the network's own head as a module from features (N, F) of `OnPixels.features` to logits (N, C)."""
    head = head_weights(network)
    if isinstance(_learned(head), _OWN_HEADS):
        return head
    # timm drops features outside of the classifier.
    return nn.Sequential(nn.Dropout(getattr(network, "drop_rate", 0.0)), head)


def head_weights(network: nn.Module) -> nn.Module:
    """Return the part that learns when the backbone is frozen. UserError for a network that has no such part."""
    return network.get_submodule(_head_on_features_name(network))


def backbone_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return all tensors of a network but those of `head_weights`, by name."""
    head = f"{_head_on_features_name(network)}."
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(head)}


def _head_on_features_name(network: nn.Module) -> str:
    """Return the name of the final classifier; pre-logit layers count as backbone."""
    classifier = network.default_cfg["classifier"]
    if not isinstance(classifier, str) or not hasattr(network, "forward_head"):
        raise UserError(f"--backbone-lr 0: {type(network).__name__} has no head of its own; give more than 0")
    whole = classifier.partition(".")[0]
    return whole if isinstance(_learned(network.get_submodule(whole)), _OWN_HEADS) else classifier


def _learned(head: nn.Module) -> nn.Module:
    return head.learned if isinstance(head, BlendedHead) else head


def add_ridge_head(network: nn.Module, *, outputs: int, code_size: int, share: float) -> nn.Module:
    """Put an unsolved ridge head beside the head of a network whose backbone is frozen; return the network."""
    name = _head_on_features_name(network)
    ridge = RidgeHead(network.head_hidden_size, outputs, code_size)
    network.set_submodule(name, BlendedHead(network.get_submodule(name), ridge, share))
    return network


def _init_small_head(model: nn.Module) -> None:
    """Initialise the head with small weights, so that training begins near equal probabilities.

    timm scales the head of the EfficientNets by its number of outputs: with three, the first losses are above 5.
    """
    head = model.get_classifier()
    if isinstance(head, nn.Linear):
        nn.init.trunc_normal_(head.weight, std=HEAD_STD)
        nn.init.zeros_(head.bias)


@torch.no_grad()
def init_bias_from_priors(model: nn.Module, priors: Tensor) -> None:
    """Initialise the head bias to the priors (C,), so that training begins near these probabilities."""
    head = model.get_classifier()
    if isinstance(head, nn.Linear):
        head.bias.copy_(priors.clamp(min=LEAST_PRIOR).log())


def parameter_groups(model: nn.Module, weight_decay: float, backbone_lr: float) -> list[dict]:
    """Return parameter groups for an optimiser: matrices, which decay, and biases and scales, which do not.

    `lr_scale` of a group multiplies the learning rate: 1 for the head, `backbone_lr` for the rest. With 0 the rest is
    frozen: it is in no group and requires no gradient.
    """
    groups = []
    head = _head(model)
    for lr_scale, of_head in ((1.0, True), (backbone_lr, False)):
        part = [weight for name, weight in model.named_parameters() if name.startswith(head) == of_head]
        if lr_scale == 0:
            for weight in part:
                weight.requires_grad_(False)
            continue
        matrices, vectors = ([weight for weight in part if (weight.ndim > 1) == many] for many in (True, False))
        groups.append({"params": matrices, "weight_decay": weight_decay, "lr_scale": lr_scale})
        groups.append({"params": vectors, "weight_decay": 0.0, "lr_scale": lr_scale})
    return groups


def _head(model: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of the names of the head's parameters: `head.` where timm says `head.fc`."""
    classifier = model.default_cfg["classifier"]
    names = (classifier,) if isinstance(classifier, str) else classifier
    return tuple(f"{name.partition('.')[0]}." for name in names)


def normalisation(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per RGB channel, for pixels from 0 to 1, of the backbone's pretraining.

    Those of networks side by side are 0 and 1: each normalises its own input.
    """
    if is_side_by_side(backbone):
        for name in parts_of(backbone):
            pretrained_config(name)
        return (0.0,) * 3, (1.0,) * 3
    config = pretrained_config(backbone)
    return tuple(config.mean), tuple(config.std)


def load_packaged(model: nn.Module, weights: PackagedWeights) -> nn.Module:
    """Copy packaged weights into all of the model but its head."""
    paths = [file.path() for file in weights.files]
    source = weights.read(model, paths)
    for name, tensor in tensors_without_head(model).items():
        tensor.copy_(_same_shape(source[name], tensor, name, paths[0]))
    return model


def tensors_without_head(model: nn.Module) -> dict[str, Tensor]:
    """Return all tensors of a network, by name, but those of its head: what pretrained weights give."""
    head = _head(model)
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(head)}


def _same_shape(loaded: Tensor, tensor: Tensor, name: str, path: Path) -> Tensor:
    # copy_ would broadcast, and a wrong order of tensors would go unseen.
    if loaded.shape != tensor.shape:
        raise UserError(f"{path}: {name} has shape {tuple(loaded.shape)}, the model's is {tuple(tensor.shape)}")
    return loaded


def pretrained_config(backbone: str, described: Descriptions = NOT_DESCRIBED) -> timm.models.PretrainedCfg:
    """Return timm's description of a backbone. UserError for one it does not know, or whose description it lacks.

    Names are those of timm.create_model: an architecture, one with a tag, `hf-hub:owner/repo`, `local-dir:folder`.
    """
    if backbone in described:
        return timm.models.PretrainedCfg(**described[backbone]["pretrained_cfg"])
    name = _timm_name(backbone)
    if ":" in name:
        return timm.models.PretrainedCfg(**_description(name)["pretrained_cfg"])
    # RuntimeError: an unknown tag.
    with suppress(RuntimeError):
        if timm.is_model(name):
            return timm.models.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    close = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], n=3)
    others = "timm.list_models() lists them; hf-hub:OWNER/REPO@REVISION and local-dir:FOLDER name others"
    hint = f"did you mean {', '.join(close)}?" if close else others
    raise UserError(f"--backbone {backbone!r} is not a timm model; {hint}")


def refuse_weights(backbone: str) -> None:
    """UserError unless the backbone's weights and the photos they were learned from are free for any use."""
    for name in parts_of(backbone):
        config = pretrained_config(name)
        refuse_licence(name, tag=config.tag or "", licence=config.license)


def _timm_name(backbone: str) -> str:
    """Return the name by which timm knows a model of its own pages on the hub without asking there."""
    own = backbone.replace("hf_hub:", "hf-hub:").removeprefix("hf-hub:timm/")
    return own if timm.is_model_pretrained(own) else backbone


def descriptions(backbone: str) -> Descriptions:
    """Return what folders and pages of the hub say of the networks, by name, as JSON has it."""
    named = {name: _timm_name(name) for name in parts_of(backbone)}
    return {name: _description(own) for name, own in named.items() if ":" in own}


def _description(name: str) -> dict[str, Any]:
    """Read config.json of a folder or of the hub, whose client raises OSError, RuntimeError and others."""
    try:
        found = timm.models.resolve_model_input_args(name)
        timm.models.PretrainedCfg(**found["pretrained_cfg"])
        return json.loads(json.dumps(found))
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"--backbone {name}: its config.json cannot be had ({_first_line(error)}); allowed are "
            f"hf-hub:OWNER/REPO or hf-hub:OWNER/REPO@REVISION, with a network, and local-dir:FOLDER, as timm saves them"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _build_downloaded(build: Callable[..., nn.Module], backbone: str) -> nn.Module:
    """Build with timm's own weights. The hub's client raises OSError, RuntimeError and others for any failure."""
    try:
        return build(pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--backbone {backbone}: its weights cannot be had ({_first_line(error)}); connect to the network, "
            f"give --no-pretrained, or use a backbone whose weights are packaged: {', '.join(PACKAGED_WEIGHTS)}"
        ) from error
