"""Training logs of every common kind, told apart by content, read into one `Log`."""

from llmtool.methods.temporal_scaling.logs.columns import Chosen
from llmtool.methods.temporal_scaling.logs.log import Log, NotYetError
from llmtool.methods.temporal_scaling.logs.read import read_log

__all__ = ["Chosen", "Log", "NotYetError", "read_log"]
