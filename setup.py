"""What pyproject.toml cannot say: `configs/` and `sbatch/` stay at the top of the repository and travel inside the package."""

from setuptools import find_packages, setup

SHIPPED = ("configs", "sbatch")

setup(
    packages=[*find_packages(include=["batchnorm*"]), *(f"batchnorm.{folder}" for folder in SHIPPED)],
    package_dir={f"batchnorm.{folder}": folder for folder in SHIPPED},
)
