"""Studies, many runs each: `grid` what they are, `status` how they stand, `local` runs them here by `worker`s, `slurm` there.

`tune` picks each variant's best by validation. `commands` has what `python -m batchnorm.study` can do. Only a worker's
process imports torch.
"""
