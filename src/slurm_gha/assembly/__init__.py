"""One controller and what it stands on, put together from edges: the same for production and for simulations."""

from slurm_gha.assembly.hooks import Hooked
from slurm_gha.assembly.polling import PollPace
from slurm_gha.assembly.queues import Queued, wanted_scale_sets
from slurm_gha.assembly.whole import Assembly, assemble

__all__ = ["Assembly", "Hooked", "PollPace", "Queued", "assemble", "wanted_scale_sets"]
