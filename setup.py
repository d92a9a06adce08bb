"""The packages. The folder `examples` is installed inside one of them, which `pyproject.toml` alone cannot say."""

from setuptools import find_packages, setup

OURS = ("orchestrator*", "environments*", "policies*", "store*")

setup(packages=[*find_packages(include=OURS), "orchestrator.examples"])
