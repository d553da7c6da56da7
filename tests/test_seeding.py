from __future__ import annotations

import pytest
import torch

from batchnorm.seeding import generator, seed_default_generators, stream_seed


def test_streams_differ_by_seed_name_and_index() -> None:
    seeds = {stream_seed(seed, stream, index) for seed in range(20) for stream in ("a", "b") for index in range(50)}
    assert len(seeds) == 20 * 2 * 50
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_stream_is_the_same_in_every_version() -> None:
    assert stream_seed(4842821, "batch order", 7) == 6581474928702126319


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    first = torch.rand(3, generator=generator(1, "a", 2))
    torch.rand(100)
    assert torch.equal(torch.rand(3, generator=generator(1, "a", 2)), first)
    seed_default_generators(1, "a", 2)
    assert torch.equal(torch.rand(3), first)


def test_seeding_each_step_seeds_cuda_where_it_runs_and_notes_nothing_where_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    seed_default_generators(1, "dropout", 1)
    assert not seeded
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    seed_default_generators(1, "dropout", 2)
    assert seeded == [stream_seed(1, "dropout", 2)] == [torch.initial_seed()]
