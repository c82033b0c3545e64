"""Table 1 of the paper, re-run: every method trained for equal processor time on the same data, and measured alike.

`plan` says what is compared; `budget` turns minutes into slices, by what a step of each method costs; `work` trains and
measures, and goes on where it stopped; `speed` gives the milliseconds, and quality
against the number of diffusion steps (Figure 1); `page` and `chart` write the results.
"""

from diffmsr.table1.page import write_page
from diffmsr.table1.plan import Method, Plan, read_plan
from diffmsr.table1.work import table1

__all__ = ["Method", "Plan", "read_plan", "table1", "write_page"]
