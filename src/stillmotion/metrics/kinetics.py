"""Features of clips by the 3D ResNeXt-101 trained on Kinetics, those of the published Fréchet distances; the user supplies its weights.

The file, resnext-101-kinetics.pth, is offered by the authors of the network (github.com/kenshohara/3D-ResNets-PyTorch). It is a
pickle: it is read with PyTorch's loader of plain tensors, which runs no code of the file, or it is refused.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion.core.clips import Clips
from stillmotion.core.errors import FileRefused, UserError
from stillmotion.core.precision import full_precision
from stillmotion.metrics.figure import finite
from stillmotion.nn.resnext3d import ResNeXt3d, ResNeXt3dShape

FRAMES, SIZE = 16, 112
MEAN = (114.7748, 107.7354, 99.475)
"""Of red, green and blue, of 255: that of ActivityNet, which the authors' code subtracts by default. The deviation is taken for 1."""
CHUNK = 8
MAGIC = (b"PK", b"\x80")
"""How PyTorch files begin: today's are archives, those of before 2020 pickles."""
COUNTER = "num_batches_tracked"
SOURCE = "Get resnext-101-kinetics.pth from github.com/kenshohara/3D-ResNets-PyTorch."

Colours = Literal["rgb", "bgr"]


class KineticsFeatures:
    """The network with the weights of a file. sha256: of that file as it was read, to be told beside every score.

    path: the published weight file. sha256: what its hash must be, if that is known. colours: the order in which the network gets
    them; "bgr" reverses them while the means stay in the order of red, green, blue, as the evan package does: for comparison with
    scores that were made so. shape: of the network in the file. Raises FileRefused, naming the file, where it is missing, of another
    hash, no PyTorch file, damaged, more than plain tensors, or of another network; UserError for other colours.
    """

    def __init__(
        self,
        path: Path | str,
        sha256: str | None = None,
        colours: Colours = "rgb",
        device: torch.device | str = "cpu",
        shape: ResNeXt3dShape | None = None,
    ) -> None:
        if colours not in get_args(Colours):
            raise UserError("colours of rgb or bgr", repr(colours))
        with torch.device("meta"):  # no memory for weights that are replaced, and no draw from the global generator
            network = ResNeXt3d(shape or ResNeXt3dShape())
        content, self.sha256 = _read(Path(path), sha256)
        network.load_state_dict(_weights(content, network, Path(path)), assign=True)
        self.network = network.requires_grad_(False).eval().to(device)
        self.colours, self.device = colours, device

    def features(self, clips: Clips) -> Tensor:
        """(B, 2048) float32 on the CPU. Raises UserError for frames that are no pictures and for features that are not finite."""
        found = []
        with torch.inference_mode():
            for first in range(0, len(clips), CHUNK):
                inputs = prepare(clips[first : first + CHUNK].to(self.device), self.colours)
                with full_precision(inputs):
                    found.append(self.network(inputs).cpu())
        return finite(torch.cat(found), "features")


def prepare(clips: Clips, colours: Colours = "rgb") -> Tensor:
    """What the network reads: (B, 3, 16, 112, 112), 0 to 255 less MEAN.

    The 16 frames in the middle of those that are there; a shorter clip is repeated from its start, as the network's authors do.
    Grey becomes three equal colours; frames of any size are stretched to 112 x 112 (bilinear, antialiased where they shrink).
    """
    if clips.frames.ndim != 5 or not bool(clips.mask.any(1).all()):
        raise UserError("clips (B, T, C, H, W) with a frame in each", f"shape {tuple(clips.frames.shape)}, or a clip without frames")
    frames = clips.frames[torch.arange(len(clips), device=clips.mask.device)[:, None], middle(clips.mask)].float()
    frames = F.interpolate(frames.flatten(0, 1), (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    ordered = frames.expand(-1, 3, -1, -1) if colours == "rgb" else frames.expand(-1, 3, -1, -1).flip(1)
    centred: Tensor = 255 * ordered - ordered.new_tensor(MEAN)[:, None, None]
    return centred.view(len(clips), FRAMES, 3, SIZE, SIZE).transpose(1, 2).contiguous()


def middle(mask: Tensor) -> Tensor:
    """Positions (B, 16) of the middle frames among those that are there, (B, T) bool; fewer than 16 are repeated from the first."""
    there, count = (~mask).int().argsort(dim=1, stable=True), mask.sum(1, keepdim=True)
    first = ((count - FRAMES) // 2).clamp(min=0)
    positions: Tensor = there.gather(1, first + torch.arange(FRAMES, device=mask.device) % count)
    return positions


def _read(path: Path, expected: str | None) -> tuple[Any, str]:
    """Content and hash of one and the same open file."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if expected is not None and found != expected.strip().lower():
                raise FileRefused(f"a file of sha256 {expected}", f"{path} of sha256 {found}", f"Is the download whole? {SOURCE}")
            return _tensors(file, path), found
    except OSError as error:
        raise FileRefused("the weights of the 3D ResNeXt-101", f"{path}, which cannot be read ({error.strerror})", SOURCE) from error


def _tensors(file: BinaryIO, path: Path) -> Any:
    file.seek(0)
    if not file.read(2).startswith(MAGIC):
        raise FileRefused("a file written by PyTorch", f"{path}, which is none", SOURCE)
    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        remedy = "Anything else can run code when it is loaded. " + SOURCE
        raise FileRefused("a file of plain tensors", f"{path}, which holds more or is damaged", remedy) from error
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise FileRefused("a whole file", f"{path}, which is damaged ({type(error).__name__})", SOURCE) from error


def _weights(content: Any, network: ResNeXt3d, path: Path) -> dict[str, Tensor]:
    """The weights by the network's names: without the prefix of DataParallel, the classifier and the counters of batches."""
    entries = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    named = {str(name).removeprefix("module."): value for name, value in entries.items()} if isinstance(entries, Mapping) else {}
    found = {n: value for n, value in named.items() if isinstance(value, Tensor) and not (n.startswith("fc.") or n.endswith(COUNTER))}
    state = network.state_dict()
    wanted = {name: value.shape for name, value in state.items() if not name.endswith(COUNTER)}
    wrong = [
        *(f"lacks {name}" for name in wanted if name not in found),
        *(f"has {name} too" for name in found if name not in wanted),
        *(f"has {name} of shape {tuple(found[name].shape)}" for name in wanted if name in found and found[name].shape != wanted[name]),
    ]
    if wrong:
        others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise FileRefused("the weights of the 3D ResNeXt-101, cardinality 32", f"{path}, which {wrong[0]}{others}", SOURCE)
    counters = {name: torch.zeros((), dtype=torch.long) for name in state if name.endswith(COUNTER)}
    return {name: value.float() for name, value in found.items()} | counters
