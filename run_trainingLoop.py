"""Train one run: `python run_trainingLoop.py PROBLEM=... RANDOM_SEED=...`; `--help` lists every key."""

import sys

from batchnorm.stop import leave_on_interrupt

if __name__ == "__main__":
    leave_on_interrupt()
    from batchnorm.command import main

    sys.exit(main(sys.argv[1:]))
