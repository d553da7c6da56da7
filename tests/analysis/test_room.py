"""Texts have room in every figure and style, and ticks say what they stand at.

Of the styles that are offered, those of equal width, font sizes and font give equal pages. Among the pages, a text needs the
largest share of the tightest one: the narrowest, measured in letters of its font. So every figure is drawn for the
tightest page of its kind (a column, or the whole width), with as many slots and panels as there may be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

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

PROBLEMS = {3: "digits_2c2d_bn", 5: "cifar100_3c3d_bn", 9: "cifar100_allcnnc_bn"}
MASKS = {
    slots: [("10" * 5)[:slots], "1" + "0" * (slots - 1), "0" * (slots - 1) + "1", ("01" * 5)[:slots]] for slots in PROBLEMS
}
LONG_NAME = "my_own_models.py:a_residual_network_with_a_rather_long_name_of_its_own"
OF_A_COLUMN, OF_THE_PAGE = "probnum2025", "beamer_moml"
Draw = Callable[..., Figure]


def measured(folder: Path, **keys: object) -> Path:
    """Invent a run with measurements of many sizes, of a problem with a long name."""
    path = record(
        folder, measured=True, **{"measure": "full,sharpness", "steps_per_epoch": 400, "log_every_steps": 100, **keys}
    )
    rng = np.random.default_rng(len(path.parts[-1]))
    with h5py.File(path / "run.h5", "r+") as file:
        for axis in ("updates", "probes"):
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
    """Runs of a network with a number of slots."""

    def __init__(self, folder: Path, slots: int) -> None:
        at = partial(measured, folder, problem=PROBLEMS[slots])
        self.vanilla, self.full = at(position="none"), at(position="all")
        self.modes = [at(position=MASKS[slots][0], ablation=mode) for mode in MODES[1:]]
        self.modes += [at(position=MASKS[slots][0], ablation=MODES[0], recorded_epochs=2, status=Status.CUT_OFF)]
        self.others = [at(position=mask) for mask in MASKS[slots][1:]]
        several = ",".join((MODES * 3)[:slots])
        self.list_of_modes = at(position="all", ablation=several)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Study]:
    return {slots: Study(tmp_path_factory.mktemp("room"), slots) for slots in PROBLEMS}


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("rates")
    return [record(folder, lr=lr, batch_size=size) for lr, size in ((0.001, 32), (0.0123456, 64), (0.1, 128), (1.0, 1024))]


def of_a_column(study: Study, **some: object) -> Iterator[Draw]:
    """Draw the figures that take one column of two."""
    yield partial(paramMean_perLayer, study.vanilla, study.full, study.modes, **some)
    yield partial(thresholds_per_slot, study.full, **some)


def of_the_page(study: Study, **some: object) -> Iterator[Draw]:
    """Draw the figures that take the whole width."""
    yield partial(bn_params_3Dsurface, True, "gamma", study.full, **some)
    four = study.vanilla, study.full, study.modes[-1], study.full
    yield partial(compare_3Dsurface_betas, True, *four, **some)
    yield partial(compare_contour_betas, True, *four, **some)
    yield partial(norms_per_slot, [study.vanilla, study.list_of_modes], **some)


def without_slots(study: Study) -> Iterator[tuple[bool, Draw]]:
    """Draw the figures that do not show slots, and say which take the whole width; with one and with four panels."""
    yield False, partial(performance_across_ablations, [study.vanilla, *study.modes], smooth_curve=True)
    yield False, partial(compare_ablation_performance, [study.vanilla, *study.modes])
    yield True, partial(compare_ablation_performance, [study.vanilla, study.full, *study.modes, *study.others])
    yield False, partial(statistics_gap, [study.list_of_modes])
    yield False, partial(statistics_gap, [study.full, study.others[0], *study.modes[:2]])
    yield True, partial(loss_landscape, [study.vanilla, study.list_of_modes])
    yield True, partial(sharpness, [study.vanilla, *study.modes])


def figures(studies: dict[int, Study], rates: list[Path]) -> Iterator[tuple[str, bool, Draw]]:
    """Return all figures: a name, whether each takes the whole width, and what draws it."""
    for slots, study in studies.items():
        shown: list[tuple[int, dict[str, object]]] = [(slots, {})]
        shown += [(1, {"slots": ["conv1"]})] if slots == 3 else []
        shown += [(4, {"slots": ["conv1", "conv2", "conv3", "dense1"]})] if slots == 5 else []
        for number, some in shown:
            for wide, kind in ((False, of_a_column), (True, of_the_page)):
                for draw in kind(study, **some):
                    yield f"{draw.func.__name__} {number} slots", wide, draw  # type: ignore[attr-defined]
        for wide, draw in without_slots(study):
            yield f"{draw.func.__name__} of {slots}", wide, draw  # type: ignore[attr-defined]
    yield "rates", True, partial(compare_multiple_lr, rates)
    yield "sizes", True, partial(compare_multiple_lr, rates, "BATCH_SIZE")
    paths = [studies[3].vanilla, studies[3].full, *studies[3].modes, *studies[3].others]
    yield "effects_forest", True, partial(effects_forest, paths)
    yield "slot_interactions", False, partial(slot_interactions, paths)
