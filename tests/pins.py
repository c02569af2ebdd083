"""`uv run python -m tests.pins`: write today's versions of indirect dependencies into pyproject.toml as constraints."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

_PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
_BLOCK = re.compile(r"constraint-dependencies = \[\n.*?^\]\n", re.DOTALL | re.MULTILINE)


def main() -> None:
    """Regenerate the block; what the project names itself is left out."""
    text = _PYPROJECT.read_text()
    project = tomllib.loads(text)
    named = [
        *project["project"]["dependencies"],
        *(line for extra in project["project"]["optional-dependencies"].values() for line in extra),
        *(line for group in project["dependency-groups"].values() for line in group),
    ]
    direct = {re.split(r"[\[=<>~!;]", line)[0].strip().lower() for line in named}
    _PYPROJECT.write_text(_BLOCK.sub("", text))
    command = ["uv", "pip", "compile", "--all-extras", "--group", "dev", "--no-header", "--no-annotate", str(_PYPROJECT)]
    resolved = subprocess.run(command, capture_output=True, text=True, check=True, cwd=_PYPROJECT.parent).stdout.splitlines()
    kept = [line for line in resolved if "==" in line and line.split("==")[0].lower() not in direct]
    block = "constraint-dependencies = [\n" + "".join(f'    "{line}",\n' for line in kept) + "]\n"
    marker = "compile-bytecode = true\n"
    _PYPROJECT.write_text(_BLOCK.sub("", text).replace(marker, marker + block))


if __name__ == "__main__":
    main()
