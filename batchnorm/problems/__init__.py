"""The networks that can be trained: `registry` knows them by name, `catalog` holds the package's own."""

from batchnorm.data.facts import Augmentation
from batchnorm.data.own import OwnImages
from batchnorm.problems import catalog  # noqa: F401  (registers its problems)
from batchnorm.problems.registry import Problem, find_problem, problem_name, problems, register_problem

__all__ = ["Augmentation", "OwnImages", "Problem", "find_problem", "problem_name", "problems", "register_problem"]
