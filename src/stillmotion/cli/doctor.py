"""`stillmotion doctor`: what this machine can do, and what to do about what is missing."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.util import find_spec

import typer

EXTRAS = {"av": "video", "pyarrow": "parquet", "tensorboard": "dev"}


def doctor() -> None:
    """Say what this machine can do: threads, precision, GPU, video codecs, extras; and how to mend what is missing."""
    for name, found, remedy in [*_machine(), *_codecs(), *_extras()]:
        typer.echo(f"{name:<18} {found}" + (f"   -> {remedy}" if remedy else ""))


def _machine() -> Iterator[tuple[str, str, str]]:
    import shutil

    import torch

    from stillmotion import __version__
    from stillmotion.data.roots import data_root
    from stillmotion.training.machine import has_bfloat16

    yield "stillmotion", __version__, ""
    yield "python", platform.python_version(), ""
    yield "torch", torch.__version__, ""
    yield "threads", str(torch.get_num_threads()), "set OMP_NUM_THREADS to change it" if torch.get_num_threads() == 1 else ""
    gpu = torch.cuda.is_available()
    missing = "training runs on the CPU; for a GPU install PyTorch's CUDA build and a driver"
    yield "gpu", torch.cuda.get_device_name() if gpu else "none", "" if gpu else missing
    native = has_bfloat16(torch.device("cuda" if gpu else "cpu"))
    yield "bfloat16", "native" if native else "not native", "" if native else "training uses float32, at about half the speed"
    root = data_root(None)
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 2**30
    yield "data folder", f"{root} ({free:.0f} GiB free)", "" if free > 2 else "free some space, or set STILLMOTION_DATA"


def _codecs() -> Iterator[tuple[str, str, str]]:
    if find_spec("av") is None:
        yield "video files", "gif, npy, npz, pictures only", "pip install 'stillmotion[video]'"
        return
    import av

    for name, kinds in {"h264": "mp4, mkv", "vp9": "webm", "mpeg4": "avi", "av1": "webm, mp4"}.items():
        try:
            av.codec.Codec(name, "r")
            yield f"reads {name}", f"yes ({kinds})", ""
        except Exception:
            yield f"reads {name}", "no", "install a build of PyAV with it"
    writers = [name for name in ("libx264", "mpeg4", "libvpx-vp9") if name in av.codecs_available]
    yield "writes", ", ".join(["gif", "png", *writers]), "" if writers else "install a build of PyAV with encoders"


def _extras() -> Iterator[tuple[str, str, str]]:
    for module, extra in EXTRAS.items():
        found = find_spec(module) is not None
        yield module, "installed" if found else "not installed", "" if found else f"if needed: pip install 'stillmotion[{extra}]'"
