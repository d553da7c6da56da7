from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchnorm.analysis.columns import aligned, fitted

ROWS = [
    ["problem", "mode", "seeds", "final test accuracy (%)", "time (s)"],
    ["digits", "fixed_bn", "3", "91.2 ± 0.3", "41 ± 0"],
    ["digits", "trained_bn", "3", "91.2 ± 0.3", "42 ± 0"],
]
CHOICE = {"counts": ["seeds"], "results": ["final test accuracy (%)"], "whole": "--wide shows all columns"}


def test_columns_are_aligned() -> None:
    assert aligned([["a", "long"], ["wide", "b"]]) == "a     long\nwide  b\n"


def test_what_is_the_same_stands_once_above_but_no_count_and_no_result() -> None:
    assert fitted(ROWS, 80, **CHOICE) == (  # type: ignore[arg-type]
        "problem: digits\n\n"
        "mode        seeds  final test accuracy (%)  time (s)\n"
        "fixed_bn    3      91.2 ± 0.3               41 ± 0\n"
        "trained_bn  3      91.2 ± 0.3               42 ± 0\n"
    )


def test_names_are_broken_before_columns_go() -> None:
    assert fitted(ROWS, 38, **CHOICE) == (  # type: ignore[arg-type]
        "problem: digits\n\n"
        "mode        seeds  final test  time\n"
        "                   accuracy    (s)\n"
        "                   (%)\n"
        "fixed_bn    3      91.2 ± 0.3  41 ± 0\n"
        "trained_bn  3      91.2 ± 0.3  42 ± 0\n"
    )


def test_columns_go_from_the_right_with_a_word_on_how_to_see_them() -> None:
    assert fitted(ROWS, 30, **CHOICE) == (  # type: ignore[arg-type]
        "problem: digits\n\n"
        "mode        seeds  final test\n"
        "                   accuracy\n"
        "                   (%)\n"
        "fixed_bn    3      91.2 ± 0.3\n"
        "trained_bn  3      91.2 ± 0.3\n\n"
        "no room for: time (s); --wide\nshows all columns\n"
    )


def test_one_row_is_lifted_only_where_it_has_no_room() -> None:
    assert fitted(ROWS[:2], 80, **CHOICE) == aligned(ROWS[:2])  # type: ignore[arg-type]
    assert fitted(ROWS[:2], 40, **CHOICE).startswith("problem: digits   mode: fixed_bn\n")  # type: ignore[arg-type]


def test_a_header_alone_stays() -> None:
    assert fitted(ROWS[:1], 80, **CHOICE) == aligned(ROWS[:1])  # type: ignore[arg-type]


@given(
    st.lists(st.lists(st.text("ab ±", max_size=12), min_size=4, max_size=4), min_size=1, max_size=4),
    st.integers(12, 80),
)
def test_nothing_is_lost_unsaid_and_all_fits_that_can(body: list[list[str]], width: int) -> None:
    header = ["first", "second name", "seeds", "fourth one"]
    body = [[*row[:2], "7", row[3]] for row in body]
    text = fitted([header, *body], width, counts=["seeds"], whole="--wide")
    flat = " ".join(text.split())
    assert "seeds" in flat and "seeds: 7" not in flat
    said = flat.partition("no room for:")[2]
    for name in header:
        lifted_empty = len({row[header.index(name)] for row in body}) == 1 and not body[0][header.index(name)]
        assert all(word in flat for word in name.split()) or lifted_empty
        if name in said:
            assert name != "seeds"
