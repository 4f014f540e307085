"""W itself, where the layers are balanced: the end-to-end flow at any real depth."""

from mfbook.flow.balanced.end_to_end import end_to_end_flow, flow_of_rank

__all__ = ["end_to_end_flow", "flow_of_rank"]
