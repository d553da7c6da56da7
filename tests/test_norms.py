from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from batchnorm import training
from batchnorm.analysis.laws import check
from batchnorm.assembly import build_network
from batchnorm.config import RunConfig
from batchnorm.errors import ConfigError
from batchnorm.measurements import laws
from batchnorm.measurements.probing import probing
from batchnorm.modes import NORMS, UNTREATED, Affine, Treatment, treatments
from batchnorm.norms import (
    OF_BATCH,
    BatchStatistics,
    Center,
    Ghost,
    Scale,
    channels_of,
    freeze_statistics_,
    make_norm,
    parts_of,
)
from batchnorm.problems import find_problem
from batchnorm.problems.fitting import make_network
from batchnorm.slots import read_slots, treat_
from batchnorm.store import Run, Status
from tests.test_training import assert_same_run, first_steps, interrupted_at

Configure = Callable[..., RunConfig]
EPS = 1e-5
EACH = ["batch", "center", "scale", "instance", "group:2", "layer"]
LIKE = torch.empty(())


def naive(norm: str, features: torch.Tensor) -> torch.Tensor:
    """Normalise in float64, straight from the definitions."""
    wide = features.double()
    others = tuple(range(2, features.ndim))
    if norm in ("batch", "center", "scale"):
        mean = wide.mean((0, *others), keepdim=True)
        deviation = (wide.var((0, *others), correction=0, keepdim=True) + EPS).sqrt()
        return {"batch": (wide - mean) / deviation, "center": wide - mean, "scale": wide / deviation}[norm]
    groups = {"instance": features.shape[1], "layer": 1, "group:2": 2}[norm]
    parts = wide.reshape(len(wide), groups, -1)
    normalised = (parts - parts.mean(-1, keepdim=True)) / (parts.var(-1, correction=0, keepdim=True) + EPS).sqrt()
    return normalised.reshape(wide.shape)


@pytest.mark.parametrize("norm", EACH)
@pytest.mark.parametrize("shape", [(6, 4, 3, 5), (6, 4)])
def test_each_norm_is_its_definition(norm: str, shape: tuple[int, ...]) -> None:
    if norm == "instance" and len(shape) == 2:
        with pytest.raises(ValueError, match="leaves nothing to normalise"):
            make_norm(norm, 4, 0, like=LIKE)
        return
    features = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(1)) + 2
    layer = make_norm(norm, 4, len(shape) - 2, like=LIKE)
    assert torch.allclose(layer(features).double(), naive(norm, features), atol=1e-5)
    for parameter, value in zip(layer.parameters(), (2.0, 0.5), strict=True):  # gamma, beta
        nn.init.constant_(parameter, value)
    assert torch.allclose(layer(features).double(), 2 * naive(norm, features) + 0.5, atol=1e-5)
    assert channels_of(layer) == 4


@pytest.mark.parametrize("kind", [Center, Scale])
def test_running_statistics_are_batch_norms(kind: type[BatchStatistics]) -> None:
    ours, torchs = kind(4), nn.BatchNorm2d(4)  # gamma 1, beta 0
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        features = 3 * torch.randn(6, 4, 3, 5, generator=generator) + 2
        ours(features), torchs(features)
    name = "running_mean" if kind is Center else "running_var"
    assert [key for key, _ in ours.named_buffers()] == [name]
    assert torch.allclose(getattr(ours, name), getattr(torchs, name), rtol=1e-6)
    ours.eval()
    kept = getattr(ours, name).view(-1, 1, 1)
    mean, factor = (kept, 1.0) if kind is Center else (0.0, (kept + EPS).rsqrt())
    before = getattr(ours, name).clone()
    assert torch.allclose(ours(features), (features - mean) * factor)
    assert torch.equal(getattr(ours, name), before)


@pytest.mark.parametrize("kind", [Center, Scale])
def test_gradients(kind: type[BatchStatistics]) -> None:
    norm = kind(3).double()
    features = torch.randn(4, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(norm, (features,))


@pytest.mark.parametrize("kind", [Center, Scale])
def test_a_type_of_few_bits_comes_back_and_is_computed_in_float32(kind: type[BatchStatistics]) -> None:
    features = torch.randn(64, 3, 4, generator=torch.Generator().manual_seed(1)).bfloat16()
    given = kind(3)(features)
    assert given.dtype == torch.bfloat16
    assert torch.equal(given, kind(3)(features.float()).bfloat16())


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match=r"^group:3: does not divide 4 channels"):
        make_norm("group:3", 4, 2, like=LIKE)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    with pytest.raises(ConfigError, match=r"^NORM=group:3: does not divide 4 channels in 0$"):
        treat_(net, treatments((1,), "trained_bn", "group:3"))


@pytest.mark.parametrize("norm", EACH)
def test_a_networks_own_norm_hands_its_parameters_to_another(norm: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    nn.init.constant_(net.get_submodule("1").weight, 3.0)  # type: ignore[arg-type]
    own = net.get_submodule("1")
    treat_(net, (treatments((1,), "trained_bn", norm)[0], UNTREATED))
    (slot,) = read_slots(net, ("1",))
    assert slot.gamma is own.weight
    assert (slot.norm is own) == (norm == "batch")
    assert net(torch.rand(2, 3, 5, 5)).shape == (2, 4, 3, 3)


@pytest.mark.parametrize("norm", ["batch", "center", "scale"])
@pytest.mark.parametrize("shape", [(12, 4, 3, 5), (12, 4)])
def test_statistics_of_parts_are_those_of_a_norm_of_each_and_running_ones_follow_their_mean_once(
    norm: str, shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(1)
    ghost = make_norm(norm, 4, len(shape) - 2, like=LIKE, momentum=0.3, images=4)
    each = [make_norm(norm, 4, len(shape) - 2, like=LIKE, momentum=1.0) for _ in range(3)]
    running = {name: value.clone() for name, value in ghost.named_buffers()}
    for _ in range(2):
        rising = torch.arange(12.0).view(-1, *(1,) * (len(shape) - 1))
        features = (3 * torch.randn(shape, generator=generator) + rising).requires_grad_()
        given = ghost(features)
        expected = torch.cat([one(part) for one, part in zip(each, features.split(4), strict=True)])
        assert torch.allclose(given, expected, atol=1e-6)
        (mine,), (theirs,) = (torch.autograd.grad(value.pow(3).sum(), features) for value in (given, expected))
        assert torch.allclose(mine, theirs, atol=1e-4)
        for name, value in ghost.named_buffers():
            mean = torch.stack([getattr(one, name) for one in each]).mean(0)
            running[name] += 0.3 * (mean - running[name])
            assert torch.allclose(value, running[name], rtol=1e-5)
    plain = make_norm(norm, 4, len(shape) - 2, like=LIKE)
    plain.load_state_dict(ghost.state_dict(), strict=False)
    assert torch.allclose(ghost.eval()(features), plain.eval()(features), atol=1e-6)
    assert all(torch.allclose(value, running[name], rtol=1e-5) for name, value in ghost.named_buffers())


def test_ghost_batch_norm_is_batch_norm_where_there_is_one_part_and_instance_norm_of_single_images() -> None:
    features = torch.randn(6, 4, 3, 5, generator=torch.Generator().manual_seed(1))
    for images, norm in ((6, "batch"), (9, "batch"), (1, "instance")):
        ghost = make_norm("batch", 4, 2, like=LIKE, images=images)
        assert torch.allclose(ghost(features), make_norm(norm, 4, 2, like=LIKE)(features), atol=1e-6)
    fours = make_norm("batch", 4, 2, like=LIKE, images=4)
    assert [parts_of(fours, images) for images in (3, 4, 5, 7, 8)] == [1, 1, 1, 2, 2]  # a probe's batch may be smaller


@pytest.mark.parametrize("images", [None, 2])
def test_frozen_statistics_are_used_in_training_and_stay(images: int | None) -> None:
    net = nn.Sequential(make_norm("batch", 4, 2, like=LIKE, images=images), nn.Dropout(), make_norm("scale", 4, 2, like=LIKE))
    features = torch.randn(4, 4, 3, 5, generator=torch.Generator().manual_seed(1))
    net(features)
    kept = {name: value.clone() for name, value in net.named_buffers()}
    freeze_statistics_(net, frozen=True)
    assert [module.training for module in net] == [False, True, False]
    net(features)
    assert all(torch.equal(value, kept[name]) for name, value in net.named_buffers())
    for batch_statistics, seen in ((None, False), (True, True)):
        with probing(net, batch_statistics=batch_statistics):
            assert [module.training for module in net] == [seen, False, seen]
    net.train()
    freeze_statistics_(net, frozen=False)
    with probing(net):
        assert [module.training for module in net] == [True, False, True]
    assert all(module.training for module in net)


def test_a_networks_own_norm_gives_way_to_a_ghost_with_all_it_has() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.9, eps=0.01), nn.ReLU())
    own = net.get_submodule("1")
    treat_(net, (Treatment("batch", Affine(1.0, trained=True), Affine(0.0, trained=True), ghost=2),))
    (slot,) = read_slots(net, ("1",))
    assert isinstance(slot.norm, Ghost)
    assert (slot.norm.momentum, slot.norm.eps, slot.norm.images) == (0.9, 0.01, 2)
    assert slot.gamma is own.weight
    assert "ghost" in slot.parts
    endless = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.ReLU())
    with pytest.raises(ConfigError, match=r"^BN_MOMENTUM: the network's own norm in 1 has none"):
        treat_(endless, (Treatment("center"),))


def test_momentum_and_eps_are_torchs_or_those_of_the_networks_own_norm_unless_given() -> None:
    def found(net: nn.Sequential, slot: str, treatment: Treatment) -> tuple[object, object]:
        treat_(net, (treatment,))
        norm = read_slots(net, (slot,))[0].norm
        return getattr(norm, "momentum", None), getattr(norm, "eps", None)

    for norm, has in {"batch": (0.1, EPS), "center": (0.1, EPS), "scale": (0.1, EPS), "layer": (None, EPS)}.items():
        affine = Affine(1.0, trained=True)
        for given in (Treatment(norm, affine, affine), Treatment(norm, affine, affine, momentum=0.25, eps=0.5)):
            plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
            own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.9, eps=0.01), nn.ReLU())
            expected = has if given.eps is None else (has[0] and 0.25, 0.5)
            assert found(plain, "0", given) == expected
            assert found(own, "1", given) == ((has[0] and 0.9, 0.01) if given.eps is None else expected)


def test_the_record_has_the_statistics_that_a_norm_has() -> None:
    kept = {}
    for norm in EACH:
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
        treat_(net, treatments((1,), "trained_bn", norm))
        (slot,) = read_slots(net, ("0",))
        kept[norm] = sorted(slot.parts & {"running_mean", "running_var", "divided"})
        assert isinstance(slot.norm, OF_BATCH) == ("images" in NORMS[norm.partition(":")[0]].over)
    assert kept == {
        "batch": ["divided", "running_mean", "running_var"],
        "center": ["running_mean"],
        "scale": ["divided", "running_var"],
        **{norm: ["divided"] for norm in ("instance", "group:2", "layer")},
    }


def test_a_treatment_may_leave_gamma_and_beta_out() -> None:
    for norm in EACH:
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
        treat_(net, (Treatment(norm),))
        assert net(torch.rand(2, 3, 5, 5)).shape == (2, 2, 3, 3)


@pytest.fixture(scope="module")
def measured(short_run: Configure, few_images: Path) -> Configure:
    """Return a function that makes short runs in which all is measured."""
    keys = {"problem": "mnist_2c2d_bn", "max_steps": 6, "log_every_steps": 1, "measure_steps": 1, "measure": "full"}
    return lambda **more: short_run(**keys, batch_size=16, obs_datasets=str(few_images), **more)


@pytest.fixture(scope="module")
def without_norms(
    measured: Configure, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Return what the network without norms sees, and its initial weights."""
    folder = tmp_path_factory.mktemp("without_norms")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(__file__).parent.parent)
        return first_steps(measured(position="none", measure_every=9, output_dir=str(folder)), patch)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["center", "scale", "group:4", "layer", "instance"])
def test_runs_are_paired_resume_exactly_and_obey_the_laws(
    measured: Configure, without_norms: tuple[list[torch.Tensor], dict[str, torch.Tensor]], norm: str,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    seen, initial = without_norms
    keys = {"position": "110" if norm == "instance" else "all", "norm": norm}
    config = measured(**keys, output_dir=str(tmp_path / "output"))
    mine, weights = first_steps(config, monkeypatch)
    assert all(torch.equal(one, other) for one, other in zip(seen[:6], mine[:6], strict=True))
    assert all(torch.equal(value, weights[name]) for name, value in initial.items())

    run = Run(config.directory)
    assert run.status == Status.FINISHED
    assert f"NORM={norm.replace(':', '_')}" in config.directory.name
    standings = [(finding.verdict.law, finding.verdict.standing) for finding in check(run)]
    assert laws.Standing.BROKEN not in {standing for _, standing in standings}
    kept = {law for law, standing in standings if standing == laws.Standing.KEPT}
    assert kept >= ({2, 3, 5} if norm == "scale" else {3, 5})
    assert bool(run.slots_with("effective_rate")) == (norm != "center")
    assert not run.slots_with("threshold")

    other = measured(**keys, output_dir=str(tmp_path / "resumed"))
    interrupted_at(other, signal.SIGTERM, 2, monkeypatch)
    assert training.train(other) == Status.FINISHED
    assert_same_run(config.directory, other.directory)


def test_where_nothing_is_normalised_all_norms_are_one_run(configure: Configure) -> None:
    assert configure(position="none", norm="layer") == configure(position="none")
    assert configure(ablation="affine_only", norm="layer") == configure(ablation="affine_only")
    assert configure(norm="GROUP:04", problem="mnist_2c2d_bn").norm == "group:4"
    assert configure(norm="batch").fingerprint() == configure().fingerprint()


@pytest.mark.parametrize(
    ("norm", "told"),
    [
        ("bach", "no such norm; did you mean batch?"),
        ("group", "must be group:G, with G >= 1 groups of channels"),
        ("group:0", "must be group:G, with G >= 1 groups of channels"),
        ("layer:2", "must be layer"),
        ("instance", "finds one value to normalise in dense1; another norm, or POSITION must leave it out"),
    ],
)
def test_what_cannot_be_is_refused(configure: Configure, norm: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        configure(problem="digits_2c2d_bn", norm=norm)
    assert str(error.value).startswith(f"NORM={norm}: {told}")


def test_groups_of_one_value_are_refused_before_anything_starts(configure: Configure) -> None:
    config = configure(problem="digits_2c2d_bn", norm="group:1024", position="001")
    with pytest.raises(ConfigError, match=r"^NORM=group:1024: finds one value to normalise in dense1"):
        training.train(config)
    assert not config.directory.exists()


def test_a_run_keeps_the_norms_of_its_network_and_refuses_what_they_have_not(configure: Configure, tmp_path: Path) -> None:
    file, tuning = tmp_path / "mine.py", tmp_path / "mine.yaml"
    file.write_text(OWN_NETWORK)
    tuning.write_text("net: {batch_size: 64, num_epochs: 1, SGD: {lr_schedule: null, opt_hpars: {lr: 0.1}}}")
    keys = {"problem": f"{file}:net", "tuning_conf": str(tuning), "norm": "own"}
    net = build_network(configure(**keys, ablation="fixed_beta"))
    assert [type(slot.norm) for slot in read_slots(net, ("1", "4"))] == [nn.GroupNorm, nn.LayerNorm]
    assert [slot.parts & {"gamma", "trained_gamma", "beta", "running_mean"} for slot in read_slots(net, ("1", "4"))] == [
        {"gamma", "trained_gamma", "beta"}
    ] * 2
    images, itself = torch.rand(2, 1, 28, 28), make_network(find_problem(keys["problem"]), 3)
    assert torch.equal(build_network(configure(**keys, random_seed=3))(images), itself(images))
    config = configure(**keys | {"norm": "instance"})
    with pytest.raises(ConfigError, match=r"^NORM=instance: finds one value to normalise in 4; another norm, or POSITION"):
        training.train(config)
    assert not config.directory.exists()
    for key, value, told in (
        ("ghost", 8, r"^GHOST=8: the network's own GroupNorm in 1 takes no statistics over the batch"),
        ("bn_momentum", 0.5, r"^BN_MOMENTUM=0.5: the network's own GroupNorm in 1 takes no"),
        ("freeze_stats_after", 1, r"^FREEZE_STATS_AFTER=1: the network's own norms keep no running statistics"),
    ):
        with pytest.raises(ConfigError, match=told):
            build_network(configure(**keys, **{key: value}))


OWN_NETWORK = """
from torch import nn

from batchnorm.problems import register_problem


@register_problem(image_set="digits", classes=10, slots=("1", "4"))
def net() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 5, stride=4), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(144, 8), nn.LayerNorm(8), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(8, 10))
"""
