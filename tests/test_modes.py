from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchnorm import modes
from batchnorm.errors import ConfigError
from batchnorm.modes import (
    MODES,
    UNTREATED,
    Mask,
    Trains,
    canonical_mode,
    find_mode,
    format_mask,
    parse_mask,
    treatments,
    variant_name,
)

any_mask = st.lists(st.integers(0, 1), min_size=1, max_size=20).map(tuple)


def slots(mask: Mask) -> list[str]:
    return [f"layer{number}" for number in range(len(mask))]


@given(any_mask)
def test_every_way_of_writing_a_mask_reads_the_same(mask: Mask) -> None:
    comma = ",".join(map(str, mask))
    for text in (comma, f"[{comma}]", comma.replace(",", " , "), f" {comma} "):
        assert parse_mask(text, slots(mask)) == mask
    assert parse_mask("".join(map(str, mask)), slots(mask)) == mask
    assert format_mask(mask) == comma


def test_all_and_none() -> None:
    assert parse_mask("all", ["a", "b"]) == (1, 1)
    assert parse_mask("NONE", ["a", "b"]) == (0, 0)


@pytest.mark.parametrize(
    "text", ["", "[]", "0,1", "0,1,1,0", "012", "0,2,1", "0,,1", "a,b,c", "-1,0,1", "0 1 1", "0.0,1,1", "\u0660,\u0661,\u0661"]
)
def test_a_bad_mask_is_refused_with_the_slots_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"POSITION=.*conv1, conv2, dense1"):
        parse_mask(text, ["conv1", "conv2", "dense1"])


def test_mode_names() -> None:
    trained = {
        mode.name: (mode.treatment.gamma and mode.treatment.gamma.trained, mode.treatment.beta and mode.treatment.beta.trained)
        for mode in MODES.values()
    }
    assert trained == {
        "trained_bn": (True, True),
        "fixed_bn": (False, False),
        "fixed_gamma": (False, True),
        "fixed_beta": (True, False),
        "affine_only": (True, True),
        "bn_only": (True, True),
        "bn_and_head": (True, True),
    }
    assert [mode.name for mode in MODES.values() if mode.treatment.norm is None] == ["affine_only"]
    assert {mode.name for mode in MODES.values() if mode.trains is not Trains.ALL} == {"bn_only", "bn_and_head"}
    with pytest.raises(ConfigError, match=r"ABLATION=fixd_bn: unknown mode; did you mean fixed_bn\?"):
        find_mode("fixd_bn")


def test_a_row_is_told_from_the_others_in_tables_legends_and_figures() -> None:
    for part in ("title", "label", "colour", "dashes"):
        assert len({str(getattr(mode, part)) for mode in MODES.values()}) == len(MODES)
    assert all(MODES[name].name == name for name in MODES)


@given(any_mask, st.sampled_from(list(MODES)))
def test_a_slot_is_treated_where_the_mask_says(mask: Mask, mode: str) -> None:
    if mode == "bn_only" and not any(mask):
        with pytest.raises(ConfigError, match=r"ABLATION=bn_only: trains nothing where no slot has a norm"):
            treatments(mask, mode)
        return
    stays = any(mask) or mode == "bn_and_head"
    assert treatments(mask, mode) == tuple(MODES[mode].treatment if digit else UNTREATED for digit in mask)
    assert canonical_mode(mask, mode) == (mode if stays else "trained_bn")
    assert variant_name(mask, mode) == (mode if stays else "vanilla")


def test_a_list_gives_each_slot_under_the_mask_a_mode_of_its_own() -> None:
    listed = "fixed_gamma, trained_bn,affine_only"
    assert canonical_mode((1, 0, 1, 1), listed) == "fixed_gamma,trained_bn,affine_only"
    gamma, bn, affine = (MODES[name].treatment for name in ("fixed_gamma", "trained_bn", "affine_only"))
    assert treatments((1, 0, 1, 1), listed) == (gamma, UNTREATED, bn, affine)
    assert canonical_mode((1, 0, 1), "fixed_bn,fixed_bn") == "fixed_bn"
    assert canonical_mode((0, 0), "fixed_bn,trained_bn") == "trained_bn"
    assert variant_name((1, 1), "fixed_bn,trained_bn") == "fixed_bn,trained_bn"


@pytest.mark.parametrize(
    ("mask", "text", "told"),
    [
        ((1, 1, 0), "fixed_bn,fixed_bn,fixed_bn", "has 3 modes; give one for all, or one for each 1 of the mask 1,1,0, 2"),
        ((1, 1), "fixed_bn,bn_only", "bn_only is about the whole network, and cannot be in a list of slots"),
        ((1, 1), "fixed_bn,", "unknown mode"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(mask: Mask, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^ABLATION=.*{told}"):
        canonical_mode(mask, text)


def test_named_sets_of_masks() -> None:
    assert modes.prefixes(3) == [(1, 0, 0), (1, 1, 0), (1, 1, 1)]
    assert modes.suffixes(3) == [(1, 1, 1), (0, 1, 1), (0, 0, 1)]
    assert modes.singles(3) == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len(set(modes.all_masks(5))) == 32
