"""Measures an update on the fake accelerator, which fails where the host would wait. It changes its process for good."""

from __future__ import annotations

import torch
from batchnorm.ablation import insert_batchnorm_
from torch import nn
from torch.nn.functional import cross_entropy

from batchnorm.feeds import positions, slot_modules
from batchnorm.measurements.contribution import contribution
from batchnorm.measurements.weights import after_update, before_forward, before_update
from tests.fake_accelerator import NAME, HostWaits, fake_accelerator
from tests.test_feeds import chain


def measure(fault: bool) -> None:
    net = chain(nn.ReLU())
    insert_batchnorm_(net, (1, 1))
    images, labels = torch.rand(8, 3, 8, 8), torch.zeros(8, dtype=torch.int64)
    with fake_accelerator() as device:
        net.to(device)
        images, labels = images.to(device), labels.to(device)
        slots = slot_modules(net, ("conv1", "dense1"))
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        values = {slot: 8 * size for slot, size in positions(net, images, slots).items()}
        running_variances = before_forward(slots)
        cross_entropy(net(images), labels).backward()
        before = before_update(slots, running_variances, values)
        optimizer.step()
        for slot, sums in after_update(slots, before).items():
            assert sums.channel_eps is not None
            norm, consumer = slots[slot].norm, slots[slot].consumer
            assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
            assert consumer is not None
            shares = contribution(norm.weight, consumer.weight)
            assert shares is not None
            for found in (sums.sums, sums.channel_inner, sums.channel_eps, shares):
                assert found.device.type == NAME
            if fault:
                sums.sums.tolist()


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
