from __future__ import annotations

import pytest

from stillmotion.core.errors import UserError
from stillmotion.data.labels import label

PATTERN = r"person-(?P<person>\d+)_(?P<action>.+)"


def test_named_groups_become_factors_with_classes_in_counting_order() -> None:
    labels = label(["person-10_run.mp4", "x/person-9_walk.avi", "person-9_run"], PATTERN)
    assert labels.classes == {"person": ("9", "10"), "action": ("run", "walk")}
    assert labels.values == {"person": (1, 0, 0), "action": (0, 1, 0)}
    assert labels.unmatched == ()


def test_names_that_do_not_fit_are_unknown_and_listed() -> None:
    labels = label(["person-1_run.mp4", "intro.mp4"], PATTERN)
    assert labels.values == {"person": (0, -1), "action": (0, -1)}
    assert labels.unmatched == ("intro.mp4",)


def test_an_optional_group_that_is_missing_is_unknown() -> None:
    assert label(["a1.mp4", "a.mp4"], r"a(?P<take>\d+)?").values == {"take": (0, -1)}


def test_only_endings_of_videos_are_cut_off() -> None:
    assert label(["v1.5", "v1.5.mp4"], r"^v(?P<version>.+)$").classes == {"version": ("1.5",)}


def test_one_level_of_folders_is_one_factor() -> None:
    labels = label(["run/1.mp4", "walk/1.mp4", "run/2.mp4", "odd.mp4"], labels_from="folders")
    assert labels.classes == {"folder": ("run", "walk")}
    assert labels.values == {"folder": (0, 1, 0, -1)}


def test_deeper_folders_are_numbered_from_outside() -> None:
    labels = label(["ann/run/1.mp4", "bob/walk/1.mp4", "bob/1.mp4"], labels_from="folders")
    assert labels.values == {"folder_1": (0, 1, 1), "folder_2": (0, 1, -1)}


def test_both_sources_together() -> None:
    assert set(label(["run/p1.mp4"], r"p(?P<person>\d)", "folders").values) == {"person", "folder"}


def test_no_labels_by_default() -> None:
    assert label(["a.mp4"]).values == {}


@pytest.mark.parametrize(
    ("pattern", "labels_from", "message"),
    [
        ("(?P<person>", None, "expected a regular expression, got"),
        (r"person-(\d+)", None, "a pattern with named groups"),
        (r"(?P<take>take\d)", None, "which fits none. The first is 'person-1_run'"),
        (None, "folders", "clips in sub-folders, to take labels from"),
        (None, "names", 'labels from "folders", got \'names\''),
    ],
)
def test_labels_that_cannot_be(pattern: str | None, labels_from: str | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        label(["person-1_run.mp4"], pattern, labels_from)
    assert message in str(caught.value)
