"""Every case, from the file of its subject."""

from tests.unit.node.cases.paired import CONTRAST, PAIRS
from tests.unit.node.cases.real import REAL
from tests.unit.node.cases.refused import LOOP, REFUSED
from tests.unit.node.cases.stored import ENHANCED, PIXELS, SYNTAXES

CASES = [*SYNTAXES, *PIXELS, *ENHANCED, *REFUSED, *LOOP, *CONTRAST, *PAIRS, *REAL]
