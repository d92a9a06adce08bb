"""Who learns: models, samplers, objectives, the learner.

Needs torch, transformers, numpy, safetensors and pydantic, and none of the other packages: a learner runs on a bare GPU
host. Options live in `config`, which imports none of the heavy ones.
"""

from policies import late_imports

late_imports.install()  # before any of transformers' models
