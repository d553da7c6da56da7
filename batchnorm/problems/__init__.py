"""The networks that can be trained: `registry` knows them by name, `catalog` holds the package's own."""

from batchnorm.problems import catalog  # noqa: F401  (registers its problems)
from batchnorm.problems.registry import Problem, find_problem, problem_name, problems, register_problem

__all__ = ["Problem", "find_problem", "problem_name", "problems", "register_problem"]
