"""Trajectories: recorded features and updates of an optimizer at work, and their storage."""

from closedform.trajectories._columns import Column, column_source, lagged, run_source, window_columns
from closedform.trajectories._record import MOST_COORDINATES, RecordConfig, record
from closedform.trajectories._storage import FORMAT
from closedform.trajectories._trajectories import Trajectories, hold_out, load_trajectories, save_trajectories

__all__ = [
    "FORMAT",
    "MOST_COORDINATES",
    "Column",
    "RecordConfig",
    "Trajectories",
    "column_source",
    "hold_out",
    "lagged",
    "load_trajectories",
    "record",
    "run_source",
    "save_trajectories",
    "window_columns",
]
