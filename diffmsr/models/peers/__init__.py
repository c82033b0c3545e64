"""The networks of the paper's Table 1, each rebuilt in one file from its publication, to be compared with DiffMSR.

None of them is a product: `ModelConfig.peer` is true, and the node refuses their weights. All of them are smaller than
published, sized for two CPU cores, and each docstring says what was scaled and what was left out. They follow the ideas of
their publications; details that abstracts and equations leave open are this project's, and nobody compared them with the
authors' code. `parts` holds what they have in common.
"""

from diffmsr.discovery import import_modules_of

import_modules_of(__name__, __path__)
