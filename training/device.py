"""Device, precision, threads and seeds of a process."""

import ctypes
import platform
import random
from contextlib import AbstractContextManager
from functools import cache
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from core.cli import UserError, cpu_count

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _LARGEST_BLOCK = -1, -3, 1 << 30


def pick_device(name: str) -> torch.device:
    """Return the named device, for "auto" the GPU if there is one. UserError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _mps_works() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {name}: cannot be used ({reason}); auto and cpu always can") from error
    return device


@cache
def _mps_works() -> bool:
    """Return whether a Mac's GPU takes a training step. One that does not is named, with the reason, once."""
    if not torch.backends.mps.is_available():
        return False
    try:
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)).to("mps")
        loss = nn.functional.cross_entropy(
            network(torch.ones(2, 3, 8, 8, device="mps")), torch.tensor([0, 1]).to("mps")
        )
        loss.backward()
        return bool(torch.isfinite(loss))
    except (RuntimeError, NotImplementedError, TypeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        print(f"--device auto: the CPU is used, since the Mac's GPU (mps) takes no training step ({reason})")
        return False


def pick_workers(asked: int, device: torch.device, *, augments: bool = True) -> int:
    """Return the number of loader processes: on a GPU one per core, up to 16; on a CPU one, but none for a network of
    one thread, or for plain crops, which cost nothing."""
    if asked >= 0:
        return asked
    return min(cpu_count(), 16) if device.type == "cuda" else int(augments and torch.get_num_threads() > 1)


def seed_everything(*parts: int) -> None:
    """Seed torch, numpy and python from some numbers together, such as (seed, fold, epoch)."""
    seed = int(np.random.SeedSequence(parts).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Precision:
    """Mixed precision on a GPU: bfloat16 where the GPU has it, else float16 with loss scaling.

    On a CPU only for networks that learn nothing, if it multiplies bfloat16 itself; learning is slower with it there.
    """

    def __init__(self, device: torch.device, enabled: bool, *, learns: bool = True) -> None:
        self.device = device
        on_gpu = device.type == "cuda"
        self.enabled = enabled and (on_gpu or (device.type == "cpu" and not learns and cpu_has_bfloat16()))
        self.dtype = torch.float16 if on_gpu and not torch.cuda.is_bf16_supported() else torch.bfloat16
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.enabled and self.dtype == torch.float16)

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.enabled)


@cache
def cpu_has_bfloat16() -> bool:
    """Return whether the CPU multiplies bfloat16 (AVX512_BF16, AMX or ARM's BF16). Known on Linux alone."""
    path = Path("/proc/cpuinfo")
    return path.exists() and not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(path.read_text("utf-8").split())


def place(model: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    return model.to(device, memory_format=torch.channels_last if channels_last else torch.preserve_format)


def to_device(images: Tensor, device: torch.device, channels_last: bool) -> Tensor:
    """Move images (N, H, W, 3) uint8 to the device as (N, 3, H, W) float32 of 0 to 255; features (N, F) as float32.

    They are sent as uint8, a quarter of the bytes.
    """
    if images.ndim == 2:
        return images.to(device, torch.float32, non_blocking=True)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    moved = images.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return moved.to(torch.float32, memory_format=memory_format)


def prepare_process(threads: int) -> None:
    """Set the number of threads of this process, and let it keep the memory it frees.

    The C library returns large blocks to the system at once. To get them again at every step costs a tenth of the time
    of a training step on a CPU, and a third of that of a prediction.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
    if libc := _glibc():
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_BLOCK)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def versions() -> dict[str, str]:
    """Return the versions that may change a result, for config.json."""
    packages = ("torch", "torchvision", "timm", "albumentations", "opencv-python-headless", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
