"""Studies, many runs each: `grid` what they are, `status` how they stand, `local` and `worker` run them here, `slurm` there.

`python -m batchnorm.study --help` tells the commands. Only `worker` imports torch.
"""
