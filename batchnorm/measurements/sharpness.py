"""The largest eigenvalue of the loss's Hessian on a fixed batch.

Definition: the largest (not the largest in size) eigenvalue of the second derivative of the batch's mean loss with respect to
the trained parameters, BatchNorm in training mode; by Lanczos (ARPACK) over Hessian-vector products.
Unit: loss over parameter squared, as 2 / lr. Source: Cohen et al., 2103.00065: near 2 / lr under full-batch gradient descent.
Memory: about `vectors` + 2 copies of the trained parameters, and one batch's graph.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import nn
from torch.nn.functional import cross_entropy

from batchnorm.measurements.probing import (
    Loss,
    contiguous,
    contiguous_parameters,
    forward,
    gradient,
    hessian_product,
    probing,
)
from batchnorm.probing import Probe

IMAGES = 128
"""Of the fixed batch."""


def of_probe(probe: Probe) -> torch.Tensor:
    """Return the largest eigenvalue on a fixed batch, float64, shape ()."""
    images, labels = next(iter(probe.batches.probe_images(1, IMAGES)))
    return torch.tensor(sharpness(probe.net, images, labels, cross_entropy), dtype=torch.float64)


def sharpness(
    net: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    loss: Loss,
    *,
    tolerance: float = 1e-3,
    vectors: int = 10,
    restarts: int = 20,
) -> float:
    """Return the largest eigenvalue; NaN where Lanczos or the gradient gives none, or nothing is trained.

    Args:
        net: left as it is.
        images: a batch.
        labels: its labels.
        loss: see `probing.Loss`.
        tolerance: relative error of the eigenvalue.
        vectors: that Lanczos keeps.
        restarts: after which it gives up; each costs up to `vectors` products.
    """
    with probing(net):
        values = contiguous_parameters(net)
        parameters = [value for value in values.values() if value.requires_grad]
        size = sum(value.numel() for value in parameters)
        if not size:
            return float("nan")
        slope = gradient(loss(forward(net, contiguous(images), values), labels), parameters, create_graph=True)
        if not all(bool(part.isfinite().all()) for part in slope):
            return float("nan")

        def product(direction: NDArray[np.float32]) -> NDArray[np.float32]:
            flat = torch.from_numpy(np.ascontiguousarray(direction, np.float32).reshape(-1)).to(parameters[0])
            pieces = flat.split([value.numel() for value in parameters])
            along = [piece.view_as(value) for piece, value in zip(pieces, parameters, strict=True)]
            result = hessian_product(slope, parameters, along, keep_graph=True)
            taken: NDArray[np.float32] = torch.cat([part.reshape(-1) for part in result]).float().cpu().numpy()
            return taken

        if size <= vectors:  # fewer directions than Lanczos wants: the whole Hessian
            dense = np.stack([product(row) for row in np.eye(size, dtype=np.float32)])
            return float(np.linalg.eigvalsh((dense + dense.T) / 2)[-1])
        start = np.random.default_rng(0).standard_normal(size, np.float32)
        operator = LinearOperator((size, size), matvec=product, dtype=np.float32)
        options = {"k": 1, "which": "LA", "v0": start, "ncv": vectors, "tol": tolerance, "maxiter": restarts}
        try:
            (largest,) = eigsh(operator, return_eigenvectors=False, **options)
        except ArpackError:  # no convergence among it
            return float("nan")
        return float(largest)
