"""The spec: what a user writes, checked before anything is loaded."""

from orchestrator.spec.load import load_spec
from orchestrator.spec.model import Spec

__all__ = ["Spec", "load_spec"]
