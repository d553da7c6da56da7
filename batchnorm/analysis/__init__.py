"""What runs show: figures (`bn_plot_functions`), tables (`summary`), and both from the shell (`python -m batchnorm.analysis`).

Reads runs through `batchnorm.store.Run` and imports no torch. What a run is comes from the run, never from its path.
"""
