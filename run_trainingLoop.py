"""Train one run: `python run_trainingLoop.py PROBLEM=... RANDOM_SEED=...`; `--help` lists every key."""

import sys

from batchnorm.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
