"""One small member of each timm family, without weights: it learns, learns as a frozen backbone, and is exported.

    FAMILIES=all python -m pytest tests/test_families.py          all families (most of an hour on two cores)

By default the smallest few. A size that a network cannot take names one that it can, which is then tried.
"""

import os
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import timm

from core.cli import UserError
from core.cropping import CropSettings
from core.files import write_json
from core.tasks import task_named
from model import build_model, normalisation
from serving import export
from storage.run_dir import DONE, FORMAT, MODEL, Run, begin_fold, fold_dir_of, run_path
from training import checkpoints
from training.config import Config, resolve
from training.dry_step import refuse_untrainable
from training.heads import build_head
from training.inputs import shown_of, training_input
from training.ridge import with_ridge_head

CROP = CropSettings(size=64)
SOURCE = {"crop": asdict(CROP)}
TASK = task_named("mask")
QUICK = ("test_byobnet", "test_mambaout", "test_nfnet", "test_coatnet", "starnet_s050")
SMALLEST = re.findall(
    r"\S+",
    """
    beit_base_patch16_224 halonet_h1 test_byobnet cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32
    convnext_zepto_rms cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny
    deit_tiny_patch16_224 densenet121 dla46_c dpn48b edgenext_xx_small efficientformer_l1 efficientformerv2_s0
    mnasnet_050 efficientvim_m1 efficientvit_b0 efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8
    focalnet_tiny_srf gcvit_xxtiny ghostnet_050 hardcorenas_b hgnetv2_b0 hiera_tiny_224 sam2_hiera_tiny
    hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small
    levit_128s lowformer_b0 test_mambaout test_coatnet poolformerv2_s12 gmlp_ti16_224 lcnet_035 mobilenetv5_base
    mobilevit_xs mvitv2_tiny naflexvit_base_patch16_parfac_gap nasnetalarge nest_tiny nextvit_small test_nfnet
    pit_ti_224 pnasnet5large pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002 repghostnet_050 repvit_m1 res2next50
    resnest14d test_resnet resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18
    starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224
    tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11 visformer_tiny test_vit
    vit_tiny_r_s16_p8_224 test_vit_relpos samvit_base_patch16_224 vitamin_small_224 volo_d1_224
    ese_vovnet19b_slim_dw legacy_xception xception41p xcit_nano_12_p8_224
""",
)
"""The member with the fewest weights of each module of timm 1.0.31, but of two whose smallest has 170 million."""
CHOSEN = SMALLEST if os.environ.get("FAMILIES") == "all" else QUICK


def workable(backbone: str, backbone_lr: float) -> Config:
    """Settings that can be trained: the first ones, or those that their refusal names."""
    typed = {"backbone": backbone, "pretrained": False, "image_size": 112, "backbone_lr": backbone_lr, "batch_size": 4}
    for _ in range(3):
        config = resolve("mask", "smoke", typed)
        try:
            refuse_untrainable(TASK, config, SOURCE)
            return config
        except UserError as error:
            size = re.search(r"give --image-size (\d+)$", str(error))
            assert size or "--no-channels-last" in str(error), str(error)
            typed |= {"image_size": int(size[1])} if size else {"channels_last": False}
    raise AssertionError(f"{backbone}: its refusals name nothing that works")


def write_fold(run_dir: Path, config: Config) -> None:
    """Write a finished fold whose network was never trained."""
    shown, (mean, std) = shown_of(config, SOURCE), normalisation(config.backbone)
    write_json(run_path(run_dir), asdict(Run("/data", "photos", str(run_dir / "crops"), "0", 2, 0, (25, 40))))
    fold_input, fold_dir = training_input(config, shown).prepared(run_dir), fold_dir_of(run_dir, "mask", 0)
    identity = {
        **{"format": FORMAT, "task": "mask", "classes": list(TASK.classes), "fold": 0, "settings": config.learned()},
        **{"crop": SOURCE["crop"], "normalisation": {"mean": list(mean), "std": list(std)}},
        **{"data_hash": "0", "folds_hash": "0"},
    }
    begin_fold(fold_dir, identity | fold_input.config_entry)
    head = build_head(config.head, TASK, config.age_edges)
    network = with_ridge_head(build_model(config.backbone, head.outputs, image_size=shown.size), config, head)
    checkpoints.save_weights(fold_dir / MODEL, fold_input.saved(network))
    write_json(fold_dir / DONE, {})


@pytest.mark.parametrize("backbone_lr", [1.0, 0.0], ids=["learning", "frozen"])
@pytest.mark.parametrize("backbone", CHOSEN)
def test_a_family_learns_and_is_exported(backbone: str, backbone_lr: float, tmp_path: Path) -> None:
    if not timm.is_model(backbone):
        pytest.skip(f"this timm has no {backbone}")
    config = workable(backbone, backbone_lr)
    write_fold(tmp_path, replace(config, folds=2))
    # export.py compares the file with torch, and refuses one that differs.
    export.main(["--run-dir", str(tmp_path), "--task", "mask", "--crops", "2"])
    assert (tmp_path / "onnx" / "mask.onnx").exists()
