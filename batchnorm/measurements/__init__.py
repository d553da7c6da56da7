"""What explains a training, one measurement a file: pure functions of arrays or of a network and its images.

They know no files, runs or configurations. Those over snapshots and the laws need numpy alone; those over weights and the
probes need torch, and are imported by who calls them.
"""
