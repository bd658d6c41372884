"""``bin/Runner.Listener.py`` of a runner directory that carries its packages: finds them, then is the listener.

It is started as ``ROOT VERSION ARGUMENT…`` by a Python that knows nothing of them.
"""

import sys


def _run(root: str, version: str, arguments: list[str]) -> int:
    found = f"{sys.version_info.major}.{sys.version_info.minor}"
    if found != version:
        print(f"This runner was made for Python {version}, and {sys.executable} is Python {found}.", file=sys.stderr)
        return 1
    sys.path.insert(0, f"{root}/externals/python")
    from slurm_gha.testing.runner.main import main

    return main([root, *arguments])


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1], sys.argv[2], sys.argv[3:]))
