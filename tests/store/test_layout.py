from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

from tests.recorded import record_run


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn", position="010", epochs=2)
    with h5py.File(config.directory / "run.h5", "r") as file:
        assert set(file.attrs) == {"format_version", "config", "fingerprint", "layers", "mask", "length", "slots", "versions"}
        assert json.loads(file.attrs["config"])["POSITION"] == "0,1,0"
        assert file.attrs["layers"].tolist() == [b"conv1", b"conv2", b"dense1"]
        names: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, item: names.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        marks = {name.removeprefix("marks/"): names.pop(name) for name in list(names) if name.startswith("marks/")}
        assert set(marks) == set(names) - {"status"}
        metrics = {f"epochs/{split}_{metric}" for split in ("train", "valid", "test") for metric in ("loss", "acc")}
        assert set(names) == metrics | {
            "status", "epochs/epoch", "epochs/step", "epochs/lr", "epochs/train_seconds", "epochs/eval_seconds",
            "batches/step", "batches/loss", "batches/lr", "snapshots/step", "snapshots/gamma/conv2", "snapshots/beta/conv2",
            "snapshots/bias/conv1", "snapshots/bias/dense1", "running/mean/conv2", "running/var/conv2",
        }  # fmt: skip
        assert names["status"].shape == ()
        assert names["status"].dtype == np.int8
        assert names["epochs/train_loss"].dtype == np.float64
        assert names["snapshots/step"].dtype == np.int64
        assert names["snapshots/gamma/conv2"].dtype == np.float32
        assert all(item.maxshape[0] is None for name, item in names.items() if name != "status")
