"""Fuzzing of everything that is read from files: what strangers may send, and what crashes leave behind.

`KINDS` is the table of kinds of files; `fuzz` mutates good ones of a kind, opens each as the package does, uses what
was accepted, and counts what must not be: errors of anyone else, seconds, megabytes, and nonsense that passed.
"""

from fuzzing.harness import Counts, Kind, fuzz
from fuzzing.kinds import KINDS
from fuzzing.report import write_row

__all__ = ["KINDS", "Counts", "Kind", "fuzz", "write_row"]
