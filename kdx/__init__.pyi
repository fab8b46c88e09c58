from collections.abc import Sequence
from pathlib import Path

from torch import nn

from kdx.api import Comparison as Comparison
from kdx.api import Predictions as Predictions
from kdx.api import Run as Run
from kdx.api import RunFailed as RunFailed
from kdx.api import Sweep as Sweep
from kdx.api import UserError as UserError
from kdx.api import command as command
from kdx.api import compare as compare
from kdx.api import list as list
from kdx.api import open as open
from kdx.api import plan as plan
from kdx.api import settings as settings
from kdx.api import sweep as sweep
from kdx.api import train as train

__version__: str

def load(folder: Path | str, allow: Sequence[str] = ()) -> nn.Module: ...
