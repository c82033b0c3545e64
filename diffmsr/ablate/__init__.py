"""Ablations: variants of one network, trained alike and measured against the full one.

`ablations.toml` lists the variants, `plan` says what each of them trains and what they share, `work` trains and measures
them, `table` sets the results beside the paper's Table 2, Table 3 and Figure 6.
"""

from diffmsr.ablate.plan import ABLATIONS, Ablation, Variant, read_ablation
from diffmsr.ablate.table import TABLE_JSON, TABLE_MARKDOWN
from diffmsr.ablate.work import ablate

__all__ = ["ABLATIONS", "TABLE_JSON", "TABLE_MARKDOWN", "Ablation", "Variant", "ablate", "read_ablation"]
