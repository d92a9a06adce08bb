"""What scoring processes see of the environment variables: what programs need to run, and no secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

NAMES = frozenset(
    {
        *(
            "PATH",
            "HOME",
            "USER",
            "LOGNAME",
            "SHELL",
            "LANG",
            "LANGUAGE",
            "TZ",
            "TERM",
            "TMPDIR",
            "TMP",
            "TEMP",
        ),
        *(
            "VIRTUAL_ENV",
            "JAVA_HOME",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
        ),
        *("NVIDIA_VISIBLE_DEVICES", "TOKENIZERS_PARALLELISM", "SOURCE_DATE_EPOCH"),
    }
)
PREFIXES = (
    *("LC_", "LD_", "DYLD_", "XDG_", "CONDA_", "PYTHON", "COVERAGE_", "COV_CORE_"),
    *("OMP_", "MKL_", "KMP_", "OPENBLAS_", "NUMEXPR_", "VECLIB_", "BLIS_", "CUDA_", "HIP_", "ROCR_"),
    *("HF_", "TRANSFORMERS_"),
)
SECRET = re.compile(r"TOKEN|SECRET|PASS|KEY|CREDENTIAL|AUTH", re.IGNORECASE)
MISSED = re.compile(r"KeyError: ['\"](\w+)['\"]")


def passed_on(more: Sequence[str]) -> dict[str, str]:
    """Choose from our own variables; `more` names further ones."""
    return {name: value for name, value in os.environ.items() if name in more or _is_harmless(name)}


def hint(words: str, seen: Mapping[str, str]) -> str:
    """Add to the words of a `KeyError` how a variable that we have reaches a scoring process."""
    missed = MISSED.search(words)
    if missed is None or missed[1] in seen or missed[1] not in os.environ:
        return words
    return f"{words} (`scoring: {{env: [{missed[1]}]}}` passes this variable to scoring processes)"


def _is_harmless(name: str) -> bool:
    return (name in NAMES or name.startswith(PREFIXES)) and not SECRET.search(name)
