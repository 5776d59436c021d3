"""Rules: the data type, its file format, and the library of hand-designed optimizers."""

from closedform.rules._document import FORMAT, FORMATS, LATE_FORMAT
from closedform.rules._files import library_names, load_rule, save_rule
from closedform.rules._hub import Address, publish
from closedform.rules._rule import Rule

__all__ = ["FORMAT", "FORMATS", "LATE_FORMAT", "Address", "Rule", "library_names", "load_rule", "publish", "save_rule"]
