"""Texts have room in every figure and style, and ticks say what they stand at.

Of the styles that are offered, those of equal width, font sizes and font give equal pages. Among the pages, a text needs the
largest share of the tightest one: the narrowest, measured in letters of its font. So every figure is drawn for the
tightest page of its kind (a column, or the whole width), with as few and as many slots and panels as there may be, and those
of masks for the usual page too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

from batchnorm.analysis import looks, surfaces
from batchnorm.analysis.bn_plot_functions import (
    bn_params_3Dsurface,
    compare_3Dsurface_betas,
    compare_ablation_performance,
    compare_contour_betas,
    compare_multiple_lr,
    loss_landscape,
    norms_per_slot,
    paramMean_perLayer,
    performance_across_ablations,
    sharpness,
    statistics_gap,
    thresholds_per_slot,
)
from batchnorm.analysis.figures.effects import effects_forest
from batchnorm.analysis.figures.interactions import slot_interactions
from batchnorm.store import Status
from tests.analysis.conftest import MODES, record
from tests.analysis.texts import assert_texts_have_room, assert_ticks_say_their_values

PROBLEMS = {3: "digits_2c2d_bn", 5: "cifar100_3c3d_bn", 9: "cifar100_allcnnc_bn"}
MASKS = {
    slots: [("10" * 5)[:slots], "1" + "0" * (slots - 1), "0" * (slots - 1) + "1", ("01" * 5)[:slots]] for slots in PROBLEMS
}
LONG_NAME = "my_own_models.py:a_residual_network_with_a_rather_long_name_of_its_own"
OF_A_COLUMN, OF_THE_PAGE = "probnum2025", "beamer_moml"
Draw = Callable[..., Figure]


def invented(folder: Path, *, measured: bool = True, **keys: Any) -> Path:
    """Invent a run of a problem with a long name, whose measurements are of many sizes."""
    some: dict[str, Any] = {"measure": "full,sharpness", "measured": measured, "steps_per_epoch": 400, "log_every_steps": 200}
    path = record(folder, **some, **keys)
    rng = np.random.default_rng(len(path.parts[-1]))
    with h5py.File(path / "run.h5", "r+") as file:
        for axis in ("updates", "probes") if measured else ():
            for name, item in file[axis].items():
                for values in item.values() if isinstance(item, h5py.Group) else [item]:
                    if name not in ("step", "epoch"):
                        shares = "share_off" in name or "acc_" in name
                        values[...] = rng.random(values.shape) if shares else rng.lognormal(0, 2, values.shape)
        for name in ("config", "fingerprint"):
            text = json.loads(file.attrs[name])
            file.attrs[name] = np.bytes_(json.dumps({**text, "PROBLEM": LONG_NAME}).encode())
    return path


class Study:
    """Runs of a network with a number of slots, each made when it is first asked for."""

    def __init__(self, folder: Path, slots: int) -> None:
        self.slots = slots
        self.at = partial(invented, folder, problem=PROBLEMS[slots])

    @cached_property
    def vanilla(self) -> Path:
        return self.at(position="none")

    @cached_property
    def full(self) -> Path:
        return self.at(position="all")

    @cached_property
    def list_of_modes(self) -> Path:
        return self.at(position="all", ablation=",".join((MODES * 3)[: self.slots]))

    @cached_property
    def modes(self) -> list[Path]:
        mask = MASKS[self.slots][0]
        whole = [self.at(position=mask, ablation=mode, measured=mode != MODES[3]) for mode in MODES[1:]]
        return [*whole, self.at(position=mask, ablation=MODES[0], recorded_epochs=2, status=Status.CUT_OFF, measured=False)]

    @cached_property
    def others(self) -> list[Path]:
        return [self.at(position=mask, measured=mask == MASKS[self.slots][1]) for mask in MASKS[self.slots][1:]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Study]:
    """Return a function that gives the runs of a network with a number of slots, made once."""
    return cache(lambda slots: Study(tmp_path_factory.mktemp("room"), slots))


def grids(study: Study, **some: Any) -> Iterator[tuple[bool, Draw]]:
    """Draw the figures with a row for each slot that matplotlib lays out; say which take the whole width of the page."""
    yield False, partial(paramMean_perLayer, study.vanilla, study.full, study.modes, **some)
    yield False, partial(thresholds_per_slot, study.full, **some)
    yield True, partial(norms_per_slot, [study.vanilla, study.list_of_modes], **some)


def sheets(study: Study) -> Iterator[tuple[bool, Draw]]:
    """Draw those that are laid out by hand: with all numbers of columns, and of rows one and two, as all rows are alike."""
    conv = ["conv1", "conv2", "conv3", "dense1"]
    for slots in (conv[:1], conv, None):  # in one, two and three columns
        yield True, partial(bn_params_3Dsurface, True, "gamma", study.full, slots=slots)
    four = study.vanilla, study.full, study.modes[-1], study.full
    for draw in (compare_3Dsurface_betas, compare_contour_betas):
        for slots in (conv[:1], conv[:2]):
            yield True, partial(draw, True, *four, slots=slots)


def other_figures(study: Study) -> Iterator[tuple[bool, Draw]]:
    """Draw those that do not show slots: with one panel, and with four where there are panels."""
    yield False, partial(performance_across_ablations, [study.vanilla, *study.modes], smooth_curve=True)
    yield False, partial(compare_ablation_performance, [study.vanilla, *study.modes])
    yield True, partial(compare_ablation_performance, [study.vanilla, study.full, *study.modes, *study.others])
    yield False, partial(statistics_gap, [study.list_of_modes])
    yield False, partial(statistics_gap, [study.full, study.others[0], *study.modes[:2]])
    yield True, partial(loss_landscape, [study.vanilla, study.list_of_modes])
    yield True, partial(sharpness, [study.vanilla, *study.modes])


def effects_and_rates(study: Study, folder: Path) -> Iterator[tuple[bool, Draw]]:
    """Draw those of effects, and of one variant across rates, batch sizes and optimizers."""
    paths = [study.vanilla, study.full, *study.modes, *study.others]
    yield True, partial(effects_forest, paths)
    yield False, partial(slot_interactions, paths)
    rates = [record(folder, lr=lr, batch_size=size) for lr, size in ((0.001, 32), (0.0123456, 64), (0.1, 128), (1.0, 1024))]
    yield True, partial(compare_multiple_lr, rates)
    yield True, partial(compare_multiple_lr, rates, "BATCH_SIZE")
    optimizers = [record(folder / "more", optimizer=name) for name in ("SGD", "Momentum", "Adam", "RMSprop")]
    yield True, partial(compare_multiple_lr, optimizers, "OPTIMIZER")


def assert_all_is_well(figures: Iterable[tuple[bool, Draw]], styles: Sequence[str | None] = ("tightest",)) -> None:
    for wide, draw in figures:
        for style in styles:
            chosen = (OF_THE_PAGE if wide else OF_A_COLUMN) if style == "tightest" else style
            figure = draw(style=chosen, save=False)
            assert_texts_have_room(figure)
            assert_ticks_say_their_values(figure)


def test_the_tightest_pages_are_known() -> None:
    """Measure in letters how wide the pages are, with their own fonts; ticks may be the larger ones."""
    for wide, tightest in ((False, OF_A_COLUMN), (True, OF_THE_PAGE)):
        letters = {}
        for style in (None, *looks.formats()):
            with looks.page(style, wide=wide) as page:
                figure = page.figure(height=1)
                sample = "learning rate 0.1585, batch size 64, mask 0,0,1"
                letters[style] = looks.width_of(figure, sample, "axes.titlesize") / figure.bbox.width
        assert letters[tightest] >= 0.99 * max(letters.values()), letters


@pytest.mark.parametrize("slots", [["conv1"], None])
def test_grids_of_one_slot_and_of_nine(study: Callable[[int], Study], slots: list[str] | None) -> None:
    assert_all_is_well(grids(study(5 if slots else 9), slots=slots))


def test_sheets(study: Callable[[int], Study], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surfaces, "_SURFACE_CELLS", (4, 4))  # no text stands on a surface, and few cells take less time
    monkeypatch.setattr(surfaces, "_CONTOUR_CELLS", (4, 4))
    assert_all_is_well(sheets(study(5)))


@pytest.mark.parametrize("slots", [3, 9])
def test_figures_of_masks(study: Callable[[int], Study], slots: int) -> None:
    assert_all_is_well(other_figures(study(slots)), ["tightest"] if slots == 9 else [None])


def test_figures_of_effects_and_rates(study: Callable[[int], Study], tmp_path: Path) -> None:
    assert_all_is_well(effects_and_rates(study(3), tmp_path))
