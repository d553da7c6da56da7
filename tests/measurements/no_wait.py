"""Measures an update on the fake accelerator, which fails where the host would wait. It changes its process for good."""

from __future__ import annotations

import torch
from torch import nn

from batchnorm.measurements import contribution
from batchnorm.measurements.weights import all_sums, channel_eps
from batchnorm.modes import treatments
from batchnorm.slots import treat_
from tests.fake_accelerator import NAME, HostWaits, fake_accelerator
from tests.measurements.networks import live_slots, measured_step
from tests.test_feeds import chain


def measure(fault: bool) -> None:
    net = chain(nn.ReLU())
    treat_(net, treatments((1, 1), "trained_bn"))
    images, labels = torch.rand(8, 3, 8, 8), torch.zeros(8, dtype=torch.int64)
    with fake_accelerator() as device:
        net.to(device)
        images, labels = images.to(device), labels.to(device)
        slots = live_slots(net, ("conv1", "dense1"), images)
        updates = measured_step(net, slots, images, labels, torch.optim.SGD(net.parameters(), 0.1))
        assert list(updates) == ["conv1", "dense1"]
        for update in updates.values():
            sums, channel_inner = update.result(all_sums)
            for found in (sums, channel_inner, channel_eps(update), contribution.of_update(update)):
                assert found.device.type == NAME
            if fault:
                sums.tolist()


def main() -> None:
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    measure(fault=False)
    print("measured")
    try:
        measure(fault=True)
    except HostWaits:
        print("noticed")


if __name__ == "__main__":
    main()
