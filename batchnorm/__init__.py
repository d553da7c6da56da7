"""What do BatchNorm's parts do? Masked-BatchNorm experiments on DeepOBS's problems."""

__version__ = "0.1.0"
