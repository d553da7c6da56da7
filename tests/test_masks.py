from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchnorm import masks
from batchnorm.errors import ConfigError
from batchnorm.masks import Ablation, format_mask, parse_mask

any_mask = st.lists(st.integers(0, 1), min_size=1, max_size=20).map(tuple)


def slots(mask: masks.Mask) -> list[str]:
    return [f"layer{number}" for number in range(len(mask))]


@given(any_mask)
def test_every_way_of_writing_a_mask_reads_the_same(mask: masks.Mask) -> None:
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
    assert [(mode.value, mode.trains_gamma, mode.trains_beta) for mode in Ablation] == [
        ("trained_bn", True, True),
        ("fixed_bn", False, False),
        ("fixed_gamma", False, True),
        ("fixed_beta", True, False),
    ]
    with pytest.raises(ConfigError, match=r"ABLATION=fixd_bn: unknown mode; did you mean fixed_bn\?"):
        Ablation.parse("fixd_bn")


def test_named_sets_of_masks() -> None:
    assert masks.prefixes(3) == [(1, 0, 0), (1, 1, 0), (1, 1, 1)]
    assert masks.suffixes(3) == [(1, 1, 1), (0, 1, 1), (0, 0, 1)]
    assert masks.singles(3) == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len(set(masks.all_masks(5))) == 32
