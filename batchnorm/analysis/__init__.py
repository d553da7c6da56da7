"""What runs show: figures (`bn_plot_functions`), tables (`frame`, `summary`); from the shell `python -m batchnorm.analysis`.

Reads runs through `batchnorm.store.Run` and imports no torch. A run's record says what the run is; its path is never asked.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchnorm.analysis.export import frame

__all__ = ["frame"]


def __getattr__(name: str) -> Any:
    """Import `frame` when it is asked for: the shell's commands start without pandas."""
    if name == "frame":
        from batchnorm.analysis.export import frame

        return frame
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
