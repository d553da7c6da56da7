"""The public figures. Each takes runs, returns its matplotlib `Figure`, and saves PNG and PDF.

Runs are given as the shell takes them: a folder, a run, a glob pattern, a study's file, or several of these; also opened runs
(`Run`), or rows of a data frame that `frame` or `effects.table_of` returned (`table.query("mode == 'vanilla'")`).

Keywords of all of them (`look`):
    style: a paper format of tueplots (`neurips`, `icml`, `aistats2022`, ...) for size and fonts; the file's name says it.
    title: in place of what the runs are, which it says else; `""` for none, as for a paper, whose caption says it.
    formats: of the files: some of `png`, `pdf`, `svg`.
    save_dir: where to save; None stands for `plots/` in the folder that holds the runs.
    save: whether to save.

All raise `RunError`, one clear line, where a path is no run, the list is empty, runs do not go together, or a run
does not have what is asked for. Runs that are running or were interrupted are drawn as far as they go, and marked so.
"""

from batchnorm.analysis.figures.ablations import compare_ablation_performance
from batchnorm.analysis.figures.betas import compare_3Dsurface_betas, compare_contour_betas
from batchnorm.analysis.figures.landscape import loss_landscape
from batchnorm.analysis.figures.means import paramMean_perLayer
from batchnorm.analysis.figures.norms import norms_per_slot
from batchnorm.analysis.figures.performance import performance_across_ablations
from batchnorm.analysis.figures.rates import compare_multiple_lr
from batchnorm.analysis.figures.sharpness import sharpness
from batchnorm.analysis.figures.statistics_gap import statistics_gap
from batchnorm.analysis.figures.surface import bn_params_3Dsurface
from batchnorm.analysis.figures.thresholds import thresholds_per_slot

__all__ = [
    "bn_params_3Dsurface",
    "compare_3Dsurface_betas",
    "compare_ablation_performance",
    "compare_contour_betas",
    "compare_multiple_lr",
    "loss_landscape",
    "norms_per_slot",
    "paramMean_perLayer",
    "performance_across_ablations",
    "sharpness",
    "statistics_gap",
    "thresholds_per_slot",
]
