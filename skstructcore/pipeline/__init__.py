"""The five steps: put together, found in a pipeline, and what their fit takes."""

from .build import make_structcore
from .estimates import TimeEstimate, estimate_memory, estimate_time

__all__ = ["TimeEstimate", "estimate_memory", "estimate_time", "make_structcore"]
