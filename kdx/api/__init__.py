"""kdx from Python: what `import kdx` offers. It calls what the commands call, in this process
(docs/python.md).

A word is one of the command line's: `kdx.train("loss=slam", "seed=1")` is `kdx train loss=slam seed=1`. What
a command would end with an exit code for is raised, as UserError or KeyboardInterrupt.
"""

from kdx.api.asking import RunFailed as RunFailed
from kdx.api.asking import command as command
from kdx.api.calls import compare as compare
from kdx.api.calls import list as list
from kdx.api.calls import open as open
from kdx.api.calls import plan as plan
from kdx.api.calls import settings as settings
from kdx.api.calls import sweep as sweep
from kdx.api.calls import train as train
from kdx.api.comparison import Comparison as Comparison
from kdx.api.comparison import Sweep as Sweep
from kdx.api.predictions import Predictions as Predictions
from kdx.api.run import Run as Run
from kdx.core.errors import UserError as UserError
