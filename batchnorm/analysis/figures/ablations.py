"""A metric over training steps: a panel for each mask with all its modes, beside the two references."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from batchnorm.analysis.figures._panels import line_label, require_common_epochs
from batchnorm.analysis.runs import RunPaths, open_runs, sort_ablations
from batchnorm.analysis.shell import Command, chosen_paths, look_of
from batchnorm.errors import nearest_first, wrong_argument
from batchnorm.modes import format_mask
from batchnorm.quantities import METRICS

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from batchnorm.analysis.looks import Look


def compare_ablation_performance(
    paths: RunPaths,
    metric: str = "test_loss",
    **look: Unpack[Look],
) -> Figure:
    """Draw a panel for each mask with all its modes; vanilla and full BatchNorm are dashed references in each.

    Args:
        paths: runs of one problem, with any number of masks.
        metric: `{train,valid,test}_{loss,acc}`; a loss is drawn on a logarithmic axis.
        look: see `bn_plot_functions`.
    """
    from batchnorm.analysis import curves, looks  # matplotlib with them

    if metric not in METRICS:
        raise wrong_argument("metric", metric, f"no such metric; {nearest_first(metric, METRICS)}")
    ablations = sort_ablations(open_runs(paths))
    require_common_epochs(ablations.runs)
    masks = list(ablations.by_mask) or [ablations.groups[0].mask]
    read = {id(group): curves.metric_curve(group, metric) for group in ablations.groups}
    with looks.page(**look, wide=len(masks) > 1) as page:
        columns = 2 if len(masks) == 4 else min(len(masks), 3 if page.width > 4 else 2)
        rows = -(-len(masks) // columns)
        figure = page.figure(height=rows * min(0.8 * page.width / columns, 2.6) + 0.9)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        entries: dict[str, Artist] = {}
        marks: dict[str, Artist] = {}
        for mask, axes in zip(masks, panels.flat, strict=False):
            for row, group in ablations.panel(mask):
                label = line_label(row, group, ablations.groups, shared=True)
                curve = read[id(group)]
                line = curves.draw_curve(axes, curve, colour=row.colour, dashes=row.dashes, label=label)
                entries.setdefault(label, line)
                for status in {run.status for run in group.runs} & curves.END_MARKERS.keys():
                    marks.setdefault(status.value, curves.draw_end(axes, curve, colour=row.colour, status=status))
            axes.set_title(f"mask {format_mask(mask)}")
        _finish_grid(panels, len(masks), y_label=looks.metric_label(metric))
        looks.metric_axis(panels[0, 0], metric)
        page.title(figure, looks.facts(ablations.runs))
        looks.legend_below(figure, {**entries, **marks})
        return page.finish(figure, "compare_ablation_performance", ablations.runs, metric)


def _finish_grid(panels: NDArray[Any], used: int, *, y_label: str) -> None:
    """Label the outer panels of a grid, and take away those that are not used."""
    from batchnorm.analysis import looks  # matplotlib with them

    columns = panels.shape[1]
    for place, axes in enumerate(panels.flat):
        if place >= used:
            axes.remove()
            continue
        looks.step_axis(axes, label=place + columns >= used)
        axes.tick_params(labelbottom=place + columns >= used)
        if place % columns == 0:
            axes.set_ylabel(y_label)


COMMAND = Command(
    "ablations",
    "a panel for each mask with all its modes",
    "output --metric test_acc",
    lambda given: compare_ablation_performance(chosen_paths(given), given.metric, **look_of(given)),
    {"--metric": {"default": "test_loss", "metavar": "NAME", "help": f"{' | '.join(METRICS)} (default: test_loss)"}},
)
