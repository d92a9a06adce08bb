"""Who learns: models, samplers, objectives, the learner.

This room needs torch, transformers, numpy, safetensors and pydantic, and nothing of the other rooms: a learner
runs on a bare GPU host. Options live in `config`, which imports none of the heavy ones.
"""
