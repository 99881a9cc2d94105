from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from stillmotion.core.errors import UserError
from stillmotion.data.fitting import FrameSpec, fit_image, select


def striped() -> Image.Image:
    """32 x 16: a red quarter, a green half, a blue quarter."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :8, 0], pixels[:, 8:24, 1], pixels[:, 24:, 2] = 200, 150, 250
    return Image.fromarray(pixels)


def test_crop_keeps_the_central_square() -> None:
    fitted = fit_image(striped(), FrameSpec(size=8))
    # The outer columns are blended with their neighbours outside, as antialiasing asks.
    assert (fitted[:, :, 2:-2] == np.array([0, 150, 0], np.uint8)[:, None, None]).all()
    assert fitted[1].min() > 130
    upright = fit_image(striped().rotate(90, expand=True), FrameSpec(size=8))
    assert (upright == np.rot90(fitted, axes=(1, 2))).all()


def test_letterbox_keeps_everything_between_black_bars() -> None:
    fitted = fit_image(striped(), FrameSpec(size=16, fit="letterbox"))
    assert not fitted[:, :4].any()
    assert not fitted[:, 12:].any()
    assert fitted[:, 8, 1].tolist() == [200, 0, 0]
    assert fitted[:, 8, 8].tolist() == [0, 150, 0]
    assert fitted[:, 8, 14].tolist() == [0, 0, 250]


def test_oblong_pixels_count_by_their_shape() -> None:
    """With pixels twice as high as wide the picture is a square, all of which is kept."""
    fitted = fit_image(striped(), FrameSpec(size=16), aspect=0.5)
    assert fitted[0, 8, 1] == 200
    assert fitted[2, 8, 14] == 250


def test_grey_is_one_channel_of_luma() -> None:
    fitted = fit_image(striped(), FrameSpec(size=8, grey=True))
    assert fitted.shape == (1, 8, 8)
    assert abs(int(fitted[0, 4, 4]) - 0.587 * 150) < 1


def test_shrinking_is_antialiased_and_the_right_size_is_left_alone() -> None:
    checks = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    small = fit_image(checks, FrameSpec(size=8))
    assert np.abs(small.astype(int) - 127.5).max() < 3
    assert (fit_image(checks, FrameSpec(size=64, grey=True))[0] == np.asarray(checks)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 1}, "a frame size from 2 to 4096 pixels, got 1"),
        ({"fit": "stretch"}, "a fit of crop or letterbox, got 'stretch'"),
        ({"stride": 0}, "a stride of 1 or more, got 0"),
        ({"fps": 0.0}, "frames per second above 0 and at most 1000, got 0.0"),
    ],
)
def test_settings_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        FrameSpec(**options)


@pytest.mark.parametrize("fps", [0.7, 3.0, 10.0, 24.0])
def test_uneven_times_are_resampled_to_the_nearest_frame(fps: float) -> None:
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.4, 30))
    times -= times[0]
    moments = [(float(time), lambda index=index: index) for index, time in enumerate(times)]
    picked: list[Any] = [frame() for frame in select(moments, FrameSpec(fps=fps), [])]  # type: ignore[arg-type]
    wanted = np.arange(0, times[-1] + 1e-6, 1 / fps)
    assert picked == [int(np.abs(times - time).argmin()) for time in wanted]
