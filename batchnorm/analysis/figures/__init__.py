"""The figures, one a module: its public function, and beside it its shell command as `COMMAND`.

The shell finds them here by itself. matplotlib is imported where something is drawn, so that `--help` stays fast.
"""
