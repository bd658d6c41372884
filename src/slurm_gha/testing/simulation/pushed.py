"""A simulated service whose demand is pushed: its hook, what befalls deliveries, and when it is down."""

from __future__ import annotations

from dataclasses import dataclass

from slurm_gha.assembly import Hooked
from slurm_gha.domain.scope import Scope
from slurm_gha.domain.secret import Secret
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.hooks import Hooks as HookDesk
from slurm_gha.github.hooks import TokenCaller
from slurm_gha.testing.github.hooks import Hooks

HOOK_SECRET = "simulated webhook secret"  # noqa: S105 - the simulator's own
SERVICE = "http://service"


@dataclass(frozen=True, slots=True)
class Pushed:
    """How news gets to the service. Shares are probabilities, intervals seconds.

    ``lost``, ``vanished``, ``doubled`` and ``delay`` are the weather's (see the simulated GitHub's webhooks);
    ``unreachable``: windows in which no delivery arrives, as (begin, end) in seconds from the beginning.
    ``catch_up`` False: the token may not read the history of deliveries.
    """

    backstop: float = 600.0
    catch_up_interval: float = 600.0
    catch_up: bool = True
    lost: float = 0.0
    vanished: float = 0.0
    doubled: float = 0.0
    delay: float = 0.5
    unreachable: tuple[tuple[float, float], ...] = ()

    def rain_on(self, hooks: Hooks, epoch: float, organisation: str, scope: str) -> None:
        """Make the hook, and the weather for its deliveries."""
        hooks.add(f"orgs/{organisation}", f"{SERVICE}/v1/webhooks/{scope}", secret=HOOK_SECRET)
        weather = hooks.weather
        weather.lost, weather.vanished, weather.doubled = self.lost, self.vanished, self.doubled
        weather.delay = self.delay
        weather.unreachable = [(epoch + begin, epoch + end) for begin, end in self.unreachable]

    def hooked(self, scope: Scope, client: GitHubClient) -> Hooked:
        """The service's side of it."""
        return Hooked(
            {scope.name: scope},
            lambda: {scope.name: Secret(HOOK_SECRET)},
            {scope.name: HookDesk(scope, TokenCaller(client))},
            self.catch_up_interval,
        )
