"""The tests; they mirror the package. Each process has one thread unless a test says otherwise: two test for two cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch and numpy read these when they are loaded
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # tests run side by side: a thread that waits gives its core away
