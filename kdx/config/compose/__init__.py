"""The command line composed by Hydra: every word checked first and all errors reported together, then the
configuration as plain values.
"""

from hydra.core.override_parser.types import ChoiceSweep as ChoiceSweep
from hydra.core.override_parser.types import RangeSweep as RangeSweep
from omegaconf.errors import OmegaConfBaseException as OmegaConfBaseException

from kdx.config.compose.base import HOW as HOW
from kdx.config.compose.base import composed as composed
from kdx.config.compose.base import composes as composes
from kdx.config.compose.base import first_line as first_line
from kdx.config.compose.base import plain_config as plain_config
from kdx.config.compose.base import quick_yaml as quick_yaml
from kdx.config.compose.base import whole_config as whole_config
from kdx.config.compose.checked_words import check_words as check_words
from kdx.config.compose.checked_words import examine_words as examine_words
from kdx.config.compose.checked_words import sweeper_params as sweeper_params
from kdx.config.compose.naming import job_name as job_name
from kdx.config.compose.naming import register_names as register_names
from kdx.config.compose.naming import run_name as run_name
from kdx.config.compose.naming import slug as slug
from kdx.config.compose.naming import subdir as subdir
from kdx.config.compose.parsing import parse_overrides as parse_overrides
from kdx.config.compose.parsing import plus_less as plus_less
from kdx.config.compose.parsing import swept as swept
from kdx.config.compose.process import in_sweep as in_sweep
from kdx.config.compose.process import output_dir as output_dir
from kdx.config.compose.process import quiet_hydra as quiet_hydra
from kdx.config.compose.process import task_words as task_words
from kdx.config.compose.process import working_directory as working_directory
from kdx.config.compose.trust import overreach as overreach
from kdx.config.compose.wrong_words import PLUGINS as PLUGINS
from kdx.config.quoting import quote_paths as quote_paths

GRID = "grid"
"""The sweeper that runs all combinations."""
