"""How figures look and where they are kept: paper formats, sizes, titles, legends, axes, files. No pyplot: no global state."""

from __future__ import annotations

import inspect
import io
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from tueplots import bundles

from batchnorm.analysis.files import whole_file
from batchnorm.analysis.runs import RunPath, problem_of, slot_facts
from batchnorm.errors import RunError, nearest_first
from batchnorm.quantities import QUANTITIES
from batchnorm.store import Run

DPI = 200
_TEXT_WIDTH_INCHES = 6.75
_ROOM = 0.93  # of the width is filled with text: its own width changes a little with the resolution
SPLITS = {"train": "Train", "valid": "Validation", "test": "Test"}
_log = logging.getLogger(__name__)

_COMMON = {
    "text.usetex": False,
    "pdf.fonttype": 42,  # TrueType: submission systems refuse Type 3
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.4,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.1,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "legend.columnspacing": 1.4,
    "axes.titlepad": 3.0,
    "axes.labelpad": 2.0,
    "figure.dpi": 100,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "savefig.dpi": DPI,
}
_PLAIN = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}
_FONTS = {"serif": ["Liberation Serif", "STIXGeneral"], "sans-serif": ["Liberation Sans", "DejaVu Sans"]}
"""What stands in for a format's fonts; the last ones come with matplotlib."""


def formats() -> dict[str, str]:
    """Return the paper formats by the names that `style=` takes: tueplots' bundles, and each venue's newest without year."""
    names = [
        name
        for name, bundle in inspect.getmembers(bundles, inspect.isfunction)
        if not name.startswith("_") and not name.endswith("dark_bg") and "figure.figsize" in bundle()
    ]
    newest = {re.sub(r"\d+$", "", name): name for name in sorted(names)}
    return {**newest, **{name: name for name in names}}


def _parameters(style: str | None, *, wide: bool) -> dict[str, Any]:
    """Return matplotlib's parameters for a format; LaTeX is never called, it may be absent."""
    if style is None:
        return {**_COMMON, **_PLAIN, "figure.figsize": (_TEXT_WIDTH_INCHES, _TEXT_WIDTH_INCHES / 1.618)}
    known = formats()
    if style not in known:
        raise RunError(f"style={style}: no such paper format; {nearest_first(style, known)}")
    bundle = getattr(bundles, known[style])
    takes = inspect.signature(bundle).parameters
    options: dict[str, Any] = {"usetex": False} if "usetex" in takes else {}
    if "column" in takes:
        options["column"] = "full" if wide else "half"
    given = {
        key: value for key, value in bundle(**options).items() if not key.startswith(("figure.constrained", "figure.auto"))
    }
    family = given.pop("font.family", "sans-serif")
    candidates = [*given.get(f"font.{family}", []), *_FONTS[family]]
    available = set(font_manager.get_font_names())
    # By name: a generic family would be looked up when the figure is drawn, maybe by a user outside of `page`.
    given["font.family"] = [name for name in candidates if name in available]
    if family == "serif":
        given["mathtext.fontset"] = "stix"
    return {**given, **_COMMON}


class Plate(Figure):
    """A figure that keeps the look it was made with: where it is shown and saved later, the user's style has no say."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        FigureCanvasAgg(self)
        self._look = {name: value for name, value in matplotlib.rcParams.copy().items() if name != "backend"}

    def savefig(self, *arguments: Any, **keywords: Any) -> None:
        """Save as matplotlib does; what is not given is as on the page that the figure was made for."""
        with matplotlib.rc_context(cast(Any, self._look)):
            super().savefig(*arguments, **keywords)

    def _repr_png_(self) -> bytes:
        """Show it in a notebook."""
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


@dataclass(frozen=True)
class Page:
    """Makes a function's figure and saves it.

    Attributes:
        save_dir: where to; None stands for `plots/` next to the runs.
        save: whether to at all.
    """

    save_dir: RunPath | None
    save: bool

    @property
    def width(self) -> float:
        """Of a figure, in inches."""
        return float(matplotlib.rcParams["figure.figsize"][0])

    def figure(self, *, height: float) -> Figure:
        """Return an empty figure of the format's width, whose panels are laid out by matplotlib; `height` is in inches."""
        return self._empty(height, layout="constrained")

    def sheet(self, heading: Iterable[str]) -> Sheet:
        """Return a figure with a title, on which panels are placed by hand; its height comes last.

        matplotlib's own layout takes seconds for many 3D panels, and leaves their columns half empty.
        """
        figure = self._empty(1.0, layout=None)
        lines = title(figure, heading)
        em = matplotlib.rcParams["font.size"] / 72
        return Sheet(figure, em=em, top=(0.6 + 1.4 * lines) * em)

    def _empty(self, height: float, *, layout: Literal["constrained"] | None) -> Figure:
        return Plate(figsize=(self.width, height), layout=layout)

    def finish(self, figure: Figure, function: str, runs: Sequence[Run], *more: str) -> Figure:
        """Lay out, and save as PNG and PDF unless told not to; the files are named by `file_name`, their paths logged.

        Raises:
            RunError: it cannot be written there.
        """
        name = file_name(function, runs, *more)
        figure.set_label(name)
        if self.save:
            layout = figure.get_layout_engine()
            if layout is not None:  # laid out once is enough for both files
                figure.draw_without_rendering()
                figure.set_layout_engine(None)
            folder = Path(self.save_dir) if self.save_dir is not None else output_folder(runs[0]) / "plots"
            for form, metadata in (("png", {}), ("pdf", {"CreationDate": None})):
                path = folder / f"{name}.{form}"
                with whole_file(path, what=f"{folder}: the figure") as file:
                    figure.savefig(file, format=form, dpi=DPI, metadata=metadata)
                _log.info("%s", path)
            if layout is not None:
                figure.set_layout_engine(layout)
        return figure


@dataclass
class Sheet:
    """A figure whose panels are placed by hand, in inches from its upper left corner.

    Attributes:
        figure: the figure.
        em: the height of its letters.
        top: where the title ends.
    """

    figure: Figure
    em: float
    top: float

    @property
    def width(self) -> float:
        """Of the figure."""
        return float(self.figure.get_size_inches()[0])

    def set_height(self, height: float) -> None:
        """Choose the height, before panels are placed; the title stays at the top."""
        self.figure.set_size_inches(self.width, height)
        heading = self.figure._suptitle  # type: ignore[attr-defined]
        heading.set_y(1 - 0.4 * self.em / height)

    def panel(self, left: float, top: float, width: float, height: float, *, projection: Literal["3d"] | None = None) -> Axes:
        """Add a panel."""
        across, down = self.figure.get_size_inches()
        place = (left / across, 1 - (top + height) / down, width / across, height / down)
        return self.figure.add_axes(place, projection=projection)


@contextmanager
def page(style: str | None, save_dir: RunPath | None, save: bool, *, wide: bool = False) -> Iterator[Page]:
    """Set a format's fonts and sizes while a figure is made; `wide` figures span both columns of a two-column paper.

    All else is as matplotlib has it by itself, whatever the user's style and matplotlibrc say.

    Raises:
        RunError: there is no such format.
    """
    parameters = _parameters(style, wide=wide)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, parameters))
        yield Page(save_dir, save)


def output_folder(run: Run) -> Path:
    """Return the folder that holds SEED__PROBLEM__MASK; the run's own, where it does not lie in such folders any more."""
    below = run.config.directory.relative_to(run.config.output_dir).parts
    directory = run.directory.absolute()
    return directory.parents[len(below) - 1] if directory.parts[-len(below) :] == below else directory


def file_name(function: str, runs: Sequence[Run], *more: str) -> str:
    """Name a figure by what it shows: function, problem, masks, modes, optimizer, rates, epochs, batch sizes, seeds."""
    configs = [run.config for run in runs]
    seeds = sorted({config.random_seed for config in configs})
    modes = sorted({run.mode for run in runs})
    parts = [
        function,
        *more,
        problem_of(runs[0]),
        _joined((config.position.replace(",", "") for config in configs), "masks"),
        modes[0] if len(modes) == 1 else "",
        _joined((config.optimizer for config in configs), "optimizers"),
        f"lr{_joined((f'{config.lr!r}' for config in configs), 'rates')}",
        f"ep{_joined((str(config.num_epochs) for config in configs), 'lengths')}",
        f"bs{_joined((str(config.batch_size) for config in configs), 'sizes')}",
        f"seed{seeds[0]}" if len(seeds) == 1 else f"{len(seeds)}seeds{seeds[0]}to{seeds[-1]}",
    ]
    return "__".join(part for part in parts if part)


def _joined(values: Iterable[str], plural: str) -> str:
    distinct = sorted(set(values))
    return "+".join(distinct) if len(distinct) <= 2 else f"{len(distinct)}{plural}"


def facts(runs: Sequence[Run], *, rate: bool = True) -> list[str]:
    """Return what a title says of its runs: problem, optimizer, seed, rate, batch size, and what is unusual in the slots."""
    configs = [run.config for run in runs]
    seeds = sorted({config.random_seed for config in configs})
    rates = sorted({config.lr for config in configs})
    return [
        problem_of(runs[0]),
        ", ".join(sorted({config.optimizer for config in configs})),
        f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds ({seeds[0]} to {seeds[-1]})",
        *([_listed("learning rate", [f"{value:.4g}" for value in rates])] if rate else []),
        _listed("batch size", [str(size) for size in sorted({config.batch_size for config in configs})]),
        *slot_facts(runs),
    ]


def _listed(name: str, values: Sequence[str]) -> str:
    return f"{name} {values[0]}" if len(values) == 1 else f"{name}s {', '.join(values)}"


def title(figure: Figure, parts: Iterable[str]) -> int:
    """Write the figure's title from parts, in as many lines as its width asks for; return their number."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}, {part}" if lines else part
        if lines and _text_width(figure, longer) <= _ROOM * figure.bbox.width:
            lines[-1] = longer
        else:
            lines.append(part)
    figure.suptitle("\n".join(lines), fontsize=matplotlib.rcParams["axes.titlesize"])
    return len(lines)


def _text_width(figure: Figure, text: str) -> float:
    drawn = figure.text(0, 0, text, fontsize=matplotlib.rcParams["axes.titlesize"])
    width = drawn.get_window_extent(_renderer(figure)).width
    drawn.remove()
    return float(width)


def _renderer(figure: Figure) -> Any:
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    return canvas.get_renderer()  # type: ignore[no-untyped-call]


def legend_below(figure: Figure, entries: Mapping[str, Artist]) -> None:
    """Put one legend under all panels, with as many columns as the width has room for."""
    for rows in range(1, len(entries) + 1):
        columns = -(-len(entries) // rows)
        legend = figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)
        if columns == 1 or legend.get_window_extent(_renderer(figure)).width <= _ROOM * figure.bbox.width:
            return
        legend.remove()


def step_axis(axes: Axes, *, label: bool = True) -> None:
    """Make the horizontal axis one of training steps."""
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if label:
        axes.set_xlabel("Training step")


def accuracy_axis(axes: Axes) -> None:
    """Show accuracies, drawn as shares, in per cent."""
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.5g} %"))


def metric_label(metric: str, *, split: bool = True) -> str:
    """Name a metric's axis: `Test loss (nats)`, or `Loss (nats)` without its split."""
    of, _, kind = metric.partition("_")
    unit = QUANTITIES[metric].unit
    words = [*([SPLITS[of].lower()] if split else []), {"acc": "accuracy"}.get(kind, kind), *([f"({unit})"] if unit else [])]
    label = " ".join(words)
    return label[0].upper() + label[1:]


def metric_axis(axes: Axes, metric: str) -> None:
    """Make the vertical axis one of a metric, when all is drawn: losses on a logarithmic scale, accuracies in per cent."""
    (log_axis if metric.endswith("_loss") else accuracy_axis)(axes)


def symbol(quantity: str) -> str:
    """Return what figures call a quantity."""
    return QUANTITIES[quantity].symbol or quantity.replace("_", " ")


def log_axis(axes: Axes, which: str = "y") -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5 where it spans few decades. Call it when all is drawn."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    if which == "y":
        axes.set_yscale("log", nonpositive="mask")
    else:
        axes.set_xscale("log", nonpositive="mask")
    low, high = axis.get_view_interval()
    ratio = max(high / low, 1) if low > 0 else 1
    axis.set_minor_locator(NullLocator())
    if ratio <= 2:
        ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
        axis.set_major_locator(FixedLocator(ticks))
    else:
        powers = np.floor(np.log10(high)) - np.ceil(np.log10(low)) + 1  # one tick alone would say nothing of the scale
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if ratio <= 30 or powers < 2 else (1.0,), numticks=8))
    if ratio <= 1e5:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
