"""What this machine offers to training: device, precision, processes."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

import torch
import torch.distributed as dist

from stillmotion.core.errors import UserError


class Processes(NamedTuple):
    """This process among those of a data-parallel run."""

    rank: int = 0
    world: int = 1


def join_processes(device: torch.device) -> Processes:
    """Joins the process group that torchrun announces in the environment; alone otherwise."""
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return Processes()
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size())


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return not dist.is_initialized() or dist.get_rank() == 0


def wait_for_all(device: torch.device) -> None:
    """Returns once every process of the run has come here."""
    if dist.is_initialized():
        dist.all_reduce(torch.zeros(1, device=device))


def choose_device(name: str) -> torch.device:
    """`auto`: the GPU of this process where there is one, `cuda`: that GPU. Raises UserError for a device that is not there."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if name == "auto":
        return torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device("cuda", local) if name == "cuda" else torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError("a device that PyTorch can use here (auto, cpu, cuda, ...)", repr(name), f"PyTorch says: {error}") from error
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """`auto`: bfloat16 where the hardware multiplies it natively, float32 elsewhere."""
    if name == "auto":
        return "bfloat16" if has_bfloat16(device) else "float32"
    return name


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are native: emulated ones are slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and any(flag in _cpu_flags() for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def _cpu_flags() -> set[str]:
    if not sys.platform.startswith("linux"):
        return set()
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.lower().startswith(("flags", "features")):
                return set(line.split(":", 1)[1].split())
    return set()


def peak_memory() -> float | None:
    """The most memory that this process has held so far, in gigabytes (1e9 bytes); None where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as lines:  # what getrusage tells begins with the peak of the parent
            return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def keep_freed_memory() -> None:
    """Asks the C library to keep large freed blocks: a step frees and takes the same hundreds of megabytes again, and fresh pages
    from the system cost more than some layers. Does nothing where there is no glibc."""
    import ctypes

    try:
        libc = ctypes.CDLL("libc.so.6")
        threshold, top_pad, trim = -3, -2, -1
        libc.mallopt(threshold, 1 << 30)
        libc.mallopt(trim, (1 << 31) - 1)
        libc.mallopt(top_pad, 1 << 26)
    except OSError:
        return
