"""JIT configurations handed over as files, for nodes that cannot reach the service."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from slurm_gha.domain.secret import Secret

_SUFFIX = ".jit"


class HandoverDirectory:
    """A directory of mode 0700 on a shared filesystem; each file is one batch script's standard input, mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def path_for(self, name: str) -> Path:
        return self._path / f"{name}{_SUFFIX}"

    def write(self, name: str, config: Secret) -> Path:
        """Put the configuration in place by an atomic rename, so that a starting job reads old or new, whole."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = self.path_for(name)
        draft = target.with_suffix(".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(config.reveal() + "\n")
        draft.replace(target)
        return target

    def remove(self, name: str) -> None:
        self.path_for(name).unlink(missing_ok=True)

    def sweep(self, names: Collection[str]) -> None:
        """Remove what belongs to none of these runners: left by a crash between two steps."""
        if not self._path.is_dir():
            return
        for file in self._path.iterdir():
            if file.suffix in (_SUFFIX, ".new") and file.stem not in names:
                file.unlink(missing_ok=True)
