"""What a slot's gamma contributes to the one layer behind it, free of gauge.

Definition: with W the consumer's weights, one row an output, scale the columns that read channel c by |gamma_c|, divide each
row by its norm, and take the norm of the columns of channel c:

    contribution_c = sqrt( sum_o  gamma_c^2 |W_oc|^2 / sum_c' gamma_c'^2 |W_oc'|^2 )

|W_oc|^2 being the sum over the kernel of a conv, and over the block of H W inputs of a linear layer behind a flatten.
Neither gamma_c -> s gamma_c, W_oc -> W_oc / s nor the scale of a row of W changes it: the first changes no output behind a
homogeneous activation, the second none behind a normalised consumer. The squares sum to the number of rows.
Unit: none. A row of zeros contributes nothing. Source: the rescaling invariance of ReLU networks, Neyshabur et al.,
1506.02617, section 2; combined here.
"""

from __future__ import annotations

import torch

from batchnorm.probing import SlotUpdate


@torch.no_grad()
def of_update(update: SlotUpdate) -> torch.Tensor:
    """Return a slot's contribution after an update, shape (C,); NaN where the consumer mixes channels by groups."""
    gamma, consumer = update.slot.gamma, update.slot.consumer
    assert gamma is not None
    assert consumer is not None
    assert isinstance(consumer.weight, torch.Tensor)
    found = contribution(gamma, consumer.weight)
    return torch.full_like(gamma, torch.nan) if found is None else found


@torch.no_grad()
def contribution(gamma: torch.Tensor, consumer_weight: torch.Tensor) -> torch.Tensor | None:
    """Return each channel's contribution, shape (C,), on the device; None where the consumer mixes channels by groups.

    Args:
        gamma: shape (C,).
        consumer_weight: of a conv, shape (O, C, ...), or of a linear layer, shape (O, C * H * W).
    """
    channels, inputs = len(gamma), consumer_weight.shape[1]
    if inputs % channels or (consumer_weight.ndim > 2 and inputs != channels):
        return None
    squares = torch.linalg.vector_norm(consumer_weight.reshape(len(consumer_weight), channels, -1), dim=2).square()
    scaled = squares * gamma.square()
    rows = scaled.sum(dim=1, keepdim=True)
    shares: torch.Tensor = scaled / torch.where(rows == 0, 1, rows)
    return shares.sum(dim=0).sqrt()
