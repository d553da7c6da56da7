"""How figures look and where they are kept: paper formats, sizes, titles, legends, axes, files. No pyplot: no global state."""

from __future__ import annotations

import inspect
import io
import logging
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator, ScalarFormatter
from tueplots import bundles

from batchnorm.analysis.files import whole_file
from batchnorm.analysis.runs import RunPath, output_folder, problem_of, slot_facts
from batchnorm.analysis.shell import SAVED_AS
from batchnorm.analysis.ticks import TickFormatter
from batchnorm.errors import RunError, nearest_first, wrong_argument
from batchnorm.quantities import QUANTITIES
from batchnorm.store import Run

DPI = 200
_TEXT_WIDTH_INCHES = 6.75
_ROOM = 0.93  # of the width is filled with text: its own width changes a little with the resolution
SPLITS = {"train": "Train", "valid": "Validation", "test": "Test"}
_ROWS = 2
"""Of a title and of a legend, for which the heights of figures have room."""
_LONGEST_NAME = 200
"""Bytes of a file's name without its ending; file systems allow 255 with it."""
_log = logging.getLogger(__name__)
_Size = Literal["axes.titlesize", "legend.fontsize", "xtick.labelsize"]
_MOST_TICKS = 5

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
    "svg.hashsalt": "equal runs give equal files",
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
_WITHOUT_DATE: Mapping[str, dict[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""What a figure may be saved as, and the metadata with which equal runs give equal files."""
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
        raise wrong_argument("style", style, f"no such paper format; {nearest_first(style, known)}")
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


class Look(TypedDict, total=False):
    """The keywords that all figures take; `batchnorm.analysis.bn_plot_functions` says what each is."""

    style: str | None
    title: str | None
    formats: Sequence[str]
    save_dir: RunPath | None
    save: bool


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
        style: the paper format, which the names of files say.
        heading: the title in place of what the runs are; none where it is empty.
        formats: those of the files.
    """

    save_dir: RunPath | None
    save: bool
    style: str | None = None
    heading: str | None = None
    formats: Sequence[str] = SAVED_AS

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
        lines = self.title(figure, heading)
        em = matplotlib.rcParams["font.size"] / 72
        return Sheet(figure, em=em, top=(0.6 + 1.4 * lines) * em)

    def title(self, figure: Figure, parts: Iterable[str]) -> int:
        """Write the figure's title, of parts unless another was asked for, in as many lines as needed; return their number."""
        if self.heading is None:
            lines = lines_of(figure, parts, between=", ")
        else:
            lines = lines_of(figure, self.heading.split(), between=" ")
        if lines:
            figure.suptitle("\n".join(lines), fontsize=matplotlib.rcParams["axes.titlesize"])
        _grow(figure, rows=len(lines) - _ROWS)
        return len(lines)

    def _empty(self, height: float, *, layout: Literal["constrained"] | None) -> Figure:
        return Plate(figsize=(self.width, height), layout=layout)

    def finish(self, figure: Figure, function: str, runs: Sequence[Run], *more: str) -> Figure:
        """Lay out, and save unless told not to; the files are named by `file_name` and the style, their paths logged.

        Raises:
            RunError: it cannot be written there.
        """
        name = "__".join([file_name(function, runs, *more), *([self.style] if self.style else [])])
        figure.set_label(name)
        label_ticks(figure)
        if self.save:
            layout = figure.get_layout_engine()
            if layout is not None:  # laid out once is enough for both files
                figure.draw_without_rendering()
                figure.set_layout_engine(None)
            folder = Path(self.save_dir) if self.save_dir is not None else output_folder(runs[0]) / "plots"
            for form in self.formats:
                path = folder / f"{name}.{form}"
                with whole_file(path, what=f"{folder}: the figure") as file:
                    figure.savefig(file, format=form, dpi=DPI, metadata=_WITHOUT_DATE[form])
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
        if heading is not None:
            heading.set_y(1 - 0.4 * self.em / height)

    def panel(self, left: float, top: float, width: float, height: float, *, projection: Literal["3d"] | None = None) -> Axes:
        """Add a panel."""
        across, down = self.figure.get_size_inches()
        place = (left / across, 1 - (top + height) / down, width / across, height / down)
        return self.figure.add_axes(place, projection=projection)


@contextmanager
def page(
    style: str | None = None,
    save_dir: RunPath | None = None,
    save: bool = True,
    *,
    title: str | None = None,
    formats: Sequence[str] = SAVED_AS,
    wide: bool = False,
) -> Iterator[Page]:
    """Set a format's fonts and sizes while a figure is made; `wide` figures span both columns of a two-column paper.

    All else is as matplotlib has it by itself, whatever the user's style and matplotlibrc say.

    Raises:
        RunError: there is no such style or format of a file.
    """
    style = style and style.lower()
    parameters = _parameters(style, wide=wide)
    for form in formats:
        if form not in _WITHOUT_DATE:
            raise wrong_argument("formats", form, f"no such format; {nearest_first(form, _WITHOUT_DATE)}", option="format")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, parameters))
        yield Page(save_dir, save, style, title, formats)


def file_name(function: str, runs: Sequence[Run], *more: str) -> str:
    """Name a figure by what it shows: function, problem, masks, modes, slots, optimizer, rates, epochs, batch sizes, seeds."""
    configs = [run.config for run in runs]
    seeds = sorted({config.random_seed for config in configs})
    modes = sorted({run.mode for run in runs})
    parts = [
        function,
        *more,
        problem_of(runs[0]),
        _joined((config.position.replace(",", "") for config in configs), "masks"),
        modes[0] if len(modes) == 1 else "",
        *(re.sub(r"[^\w.-]+", "", fact) for fact in slot_facts(runs)),
        _joined((config.optimizer for config in configs), "optimizers"),
        f"lr{_joined((f'{config.lr!r}' for config in configs), 'rates')}",
        f"ep{_joined((str(config.num_epochs) for config in configs), 'lengths')}",
        f"bs{_joined((str(config.batch_size) for config in configs), 'sizes')}",
        f"seed{seeds[0]}" if len(seeds) == 1 else f"{len(seeds)}seeds{seeds[0]}to{seeds[-1]}",
    ]
    name = "__".join(part for part in parts if part)
    short = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    return name if name == short else f"{short}_{zlib.crc32(name.encode()):08x}"


def _joined(values: Iterable[str], plural: str) -> str:
    distinct = sorted(set(values))
    return "+".join(distinct) if len(distinct) <= 2 else f"{len(distinct)}{plural}"


def facts(runs: Sequence[Run], *, but: Sequence[str] = ()) -> list[str]:
    """Return what a title says of its runs: problem, optimizer, seed, rate, batch size, unusual slots, `but` some keys."""
    configs = [run.config for run in runs]
    seeds = sorted({config.random_seed for config in configs})
    rates, sizes = sorted({config.lr for config in configs}), sorted({config.batch_size for config in configs})
    return [
        problem_of(runs[0]),
        *([] if "OPTIMIZER" in but else [", ".join(sorted({config.optimizer for config in configs}))]),
        f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds ({seeds[0]} to {seeds[-1]})",
        *([] if "LR" in but else [_listed("learning rate", [f"{value:.4g}" for value in rates])]),
        *([] if "BATCH_SIZE" in but else [_listed("batch size", list(map(str, sizes)))]),
        *slot_facts(runs),
    ]


def _listed(name: str, values: Sequence[str]) -> str:
    return f"{name} {values[0]}" if len(values) == 1 else f"{name}s {', '.join(values)}"


def lines_of(
    figure: Figure, parts: Iterable[str], *, between: str, size: _Size = "axes.titlesize", room: float = _ROOM
) -> list[str]:
    """Spread parts over lines that go into a share of the figure's width; a part that is longer is broken."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}{between}{part}" if lines else part
        if lines and _fits(figure, longer, size, room):
            lines[-1] = longer
        else:
            lines += _broken(figure, part, size, room)
    return lines


def _broken(figure: Figure, text: str, size: _Size, room: float) -> list[str]:
    """Break a text where it does not go into a line: behind a comma, a space or the like, or else anywhere."""
    signs = re.findall(r"\$[^$]*\$|.", text)  # a formula stays whole
    if _fits(figure, text, size, room) or len(signs) <= 1:
        return [text]
    fitting = next(n for n in range(len(signs) - 1, 0, -1) if n == 1 or _fits(figure, "".join(signs[:n]), size, room))
    good = (n for kind in (",;", " _-/.:") for n in range(fitting, fitting // 2, -1) if signs[n - 1] in kind)
    end = next(good, fitting)
    return ["".join(signs[:end]).rstrip(), *_broken(figure, "".join(signs[end:]).lstrip(), size, room)]


def _fits(figure: Figure, text: str, size: _Size, room: float) -> bool:
    return width_of(figure, text, size) <= room * figure.bbox.width


def width_of(figure: Figure, text: str, size: _Size) -> float:
    """Return a text's width in pixels.

    Raises:
        RunError: it holds a formula that cannot be read.
    """
    drawn = figure.text(0, 0, text, fontsize=matplotlib.rcParams[size])
    try:
        width = drawn.get_window_extent(_renderer(figure)).width
    except ValueError as error:
        reason = str(error).splitlines()[-1].strip().removeprefix("ParseFatalException: ").removeprefix("ParseException: ")
        raise RunError(f"{text}: holds a formula that cannot be read: {reason}") from None
    finally:
        drawn.remove()
    return float(width)


def _renderer(figure: Figure) -> Any:
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    return canvas.get_renderer()  # type: ignore[no-untyped-call]


def panel_title(axes: Axes, text: str, *, room: float) -> None:
    """Write a panel's title, in as many lines as its share of the page's width asks for."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    axes.set_title("\n".join(lines_of(figure, text.split(), between=" ", room=room)))


def row_name(axes: Axes, notes: Iterable[str], *, height: float) -> float:
    """Write what a row of panels shows upwards beside it, in lines that go into its height; return its share of the width."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    width = figure.get_size_inches()[0]
    room = 0.9 * height / width
    lines = [line for note in notes if note for line in lines_of(figure, [note], between="", room=room)]
    axes.set_ylabel("\n".join(lines))
    return float(1.3 * len(lines) * matplotlib.rcParams["font.size"] / 72 / width)


def legend_below(figure: Figure, entries: Mapping[str, Artist]) -> None:
    """Put one legend under all panels, with as many columns as the width has room for; labels too long for one are broken."""
    for rows in range(1, len(entries) + 1):
        columns = -(-len(entries) // rows)
        legend = figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)
        too_wide = legend.get_window_extent(_renderer(figure)).width > _ROOM * figure.bbox.width
        if too_wide and columns == 1:
            for text in legend.get_texts():
                lines = lines_of(figure, [text.get_text()], between="", size="legend.fontsize", room=0.8)
                text.set_text("\n".join(lines))
                rows += len(lines) - 1
        if columns == 1 or not too_wide:
            _grow(figure, rows=rows - _ROWS)
            return
        legend.remove()


def _grow(figure: Figure, *, rows: int) -> None:
    """Make a figure higher by rows of text, so that the panels keep their height."""
    if rows > 0 and figure.get_layout_engine() is not None:
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + 1.4 * rows * matplotlib.rcParams["font.size"] / 72)


def step_axis(axes: Axes, *, label: bool = True) -> None:
    """Make the horizontal axis one of training steps."""
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(TickFormatter(prefixes=True))
    if label:
        axes.set_xlabel("Training step")


def accuracy_axis(axes: Axes) -> None:
    """Show accuracies, drawn as shares, in per cent."""
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(TickFormatter(scale=100, unit=" %"))


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


def name_places(axes: Axes, names: Sequence[str]) -> None:
    """Name the places 0, 1, ... of the horizontal axis; aslant where a panel, a third of the page, is too narrow for them."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    axes.set_xticks(range(len(names)), names)
    if len(names) * max(width_of(figure, f"{name}  ", "xtick.labelsize") for name in names) > 0.2 * figure.bbox.width:
        for label in axes.get_xticklabels():
            label.set(rotation=40, horizontalalignment="right", rotation_mode="anchor")


def log_axis(axes: Axes, which: str = "y", *, at: Sequence[float] = ()) -> None:
    """Make an axis logarithmic, with ticks at 1, 2 and 5 where it spans few decades, or `at` a few places.

    Call it when all is drawn.
    """
    axis = axes.yaxis if which == "y" else axes.xaxis
    if which == "y":
        axes.set_yscale("log", nonpositive="mask")
    else:
        axes.set_xscale("log", nonpositive="mask")
    low, high = axis.get_view_interval()
    ratio = max(high / low, 1) if low > 0 else 1
    axis.set_minor_locator(NullLocator())
    if 0 < len(at) <= _MOST_TICKS:
        axis.set_major_locator(FixedLocator(list(at)))
    elif ratio <= 2:
        ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
        axis.set_major_locator(FixedLocator(ticks))
    else:
        powers = np.floor(np.log10(high)) - np.ceil(np.log10(low)) + 1  # one tick alone would say nothing of the scale
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if ratio <= 30 or powers < 2 else (1.0,), numticks=8))
    axis.set_major_formatter(TickFormatter())


def label_ticks(figure: Figure) -> None:
    """Let `ticks` label each axis that still has matplotlib's own labels: these may repeat, or leave out an offset."""
    for axes in figure.axes:
        for axis in axes._axis_map.values():  # z too
            if isinstance(axis.get_major_formatter(), ScalarFormatter):
                axis.set_major_formatter(TickFormatter())
