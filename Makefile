# `make help` lists the targets. Settings come from the environment or .env, see .env.example.

VENV ?= .venv
PYTHON := $(VENV)/bin/python
RUN := $(PYTHON) -m scripts
CLIENT := $(PYTHON) -m inferlane
LOAD := $(PYTHON) tests/load_test.py
REPORTS := .run/reports
TEST_PROCESSES ?= 4
RUNS := common celeryconfig.py api inferlane dashboard scripts tasks worker_models
CODE := $(wildcard *.py) $(wildcard common api inferlane dashboard tasks worker_models scripts tests bench deploy)
export PATH := $(abspath $(VENV)/bin):$(PATH)

.DEFAULT_GOAL := help
# No target is a file.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

##@ Start here

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: start ## Set up, start and classify a photo of a cat
	@$(PYTHON) -m scripts.demo

quick-demo: setup ## Show everything in a minute or two, on a temporary system if none runs; leaves nothing running
	@$(PYTHON) -m scripts.demo --quick

demo-menu: setup ## The same, one scene at a time
	@$(PYTHON) -m scripts.demo --menu

# Test files run in parallel, the longest first (tests/conftest.py). A failed test runs up to twice more and is reported as a rerun:
# deadlines can pass on a busy machine. Hundreds of processes start, so compiled modules are kept; `make clean` deletes them.
PYTEST = PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile \
  --no-loadscope-reorder --reruns 2
# Tests of the broker, which also run on servers other than the bundled Valkey.
BROKER_TESTS := tests/integration/tasks tests/integration/test_broker.py tests/integration/test_unsupported_servers.py \
  tests/integration/test_several_systems.py $(addprefix tests/integration/api/test_,doctor.py keys.py outages.py store.py)

test: setup-dev ## Run all tests, on the bundled Valkey
	@$(PYTEST) $(PYTEST_ARGUMENTS)

test-redis: setup-dev ## Run the tests of the broker on this machine's redis-server
	@REDIS_SERVER=$(or $(REDIS_SERVER),redis-server) $(PYTEST) $(BROKER_TESTS) $(PYTEST_ARGUMENTS)

setup: ## Create the virtual environment and install Inferlane's dependencies
	@VENV=$(VENV) scripts/setup.sh

install: setup models ## setup, then prepare the models

setup-dev: ## setup, with the tools for tests and checks
	@VENV=$(VENV) scripts/setup.sh dev

models: setup ## Find weights, export graphs, list the models that are ready
	@$(PYTHON) -m worker_models prepare

##@ Run

start: setup ## Start everything and wait until it is ready
	@$(RUN) start $(addprefix --without ,$(WITHOUT))

stop: ## Stop everything
restart: setup ## Stop and start

coordinator: setup ## Run the API, and a broker if none is reachable, in the foreground
	@honcho start broker api

dashboard: setup ## Run the dashboard in the foreground
	@honcho start dashboard

scale: ## Run more or fewer workers of a model: make scale efficientnet_lite0=3
	@$(RUN) scale $(foreach pair,$(MAKEOVERRIDES),$(if $(filter VENV=% PYTHON=%,$(pair)),,$(pair)))

status: ## One line per process
logs: ## Follow all logs
reset: ## Stop everything and delete queued requests, records and logs
stop status logs reset:
	@$(RUN) $@

health: ## The system's status and its reasons; fails if it is unhealthy
	@$(CLIENT) status

workers-status: ## Every live worker, as the API sees it
	@$(CLIENT) workers

queue-status: ## The backlog, by priority and lane
	@$(CLIENT) queues

metrics: ## Counters and latencies
monitor: setup ## Health, workers, lanes and latencies in the terminal, every second
doctor: setup ## Problems of this installation, with remedies
metrics monitor doctor:
	@$(CLIENT) $@

test-inference: ## Classify the photo of a cat on the running system
	@$(PYTHON) -m scripts.demo

simulate-crash: ## Kill a worker with SIGKILL while it holds requests; watch them be answered and it restart
	@$(PYTHON) -m scripts.demo --scene crash $(ARGUMENTS)

chaos-enable: setup ## Restart with fault injection on; faults are injected with ADMIN_KEY or the Celery CLI
chaos-disable: setup ## Restart with fault injection off
chaos-enable: export CHAOS_ENABLED = 1
chaos-disable: export CHAOS_ENABLED = 0
restart chaos-enable chaos-disable:
	@$(RUN) restart $(addprefix --without ,$(WITHOUT))

##@ Prove

resilience: setup-dev ## Workers die, the network breaks, load doubles; each test must fail on a planted fault
	@$(PYTHON) -m pytest -v tests/test_resilience.py $(PYTEST_ARGUMENTS)

benchmark: setup-dev ## Measure the system against one process without HTTP or queue, 8 minutes; writes bench/results
	@$(PYTHON) -m bench --model $(or $(MODEL),mobilenet) $(ARGUMENTS)

benchmark-peers: setup-dev ## Compare it with LitServe, BentoML, Ray Serve, Celery, Dramatiq and RQ, 12 minutes
	@$(PYTHON) -m bench.peers --model $(or $(MODEL),mobilenet) $(ARGUMENTS)

benchmark-growth: setup-dev ## Measure 100 to 100,000 queued requests and 1 to 64 workers
	@$(PYTHON) -m bench --parts growth workers --minutes 8 --workers 64 --repeats 2 $(ARGUMENTS)

benchmark-overload: setup-dev ## Offer twice the capacity for three minutes
	@$(PYTHON) -m bench --parts overload --minutes 6 --overload-seconds 180 --model $(or $(MODEL),mobilenet) $(ARGUMENTS)

chaos: setup-dev ## 100 random kills under 10,000 requests: long, writes .run/reports/chaos.md and .json
	@$(PYTHON) -m tests.chaos.soak --kills 100 --requests 10000 --report .run/reports/chaos

open-page: setup-dev ## Check that the dashboard does not leak memory in a browser open for MINUTES (30)
	@$(PYTHON) -m tests.e2e.dashboard.open_page --minutes $(or $(MINUTES),30) --report .run/reports/open-page.json

##@ Containers

# The password and the keys come from .env, see docs/deploying.md; PROFILES="observability cuda" adds services.
docker-build: ## Build the images
docker-up: ## Start all containers and wait until they are healthy
docker-down: ## Stop the containers; queued requests stay in the volume
docker-logs: ## Follow the containers' logs
docker-ps: ## One line per container, with its health
docker-build docker-down docker-ps: COMMAND = $(@:docker-%=%)
docker-up: COMMAND = up --detach --wait
docker-logs: COMMAND = logs --follow --tail 50
docker-down: override PROFILES = "*"
docker-build docker-up docker-down docker-logs docker-ps:
	@docker compose version >/dev/null 2>&1 || { echo "docker compose is not installed here: see docs/deploying.md" >&2; exit 1; }
	@docker compose $(addprefix --profile ,$(PROFILES)) $(COMMAND)

##@ Load tests of a running system (ARGUMENTS="--rate 20 --max-p95 0.5" adds options)

load-test: setup-dev ## 100 photos from 10 users; fails if an answer is wrong or missing
	@$(LOAD) --requests 100 --concurrent 10 $(ARGUMENTS)

load-test-heavy: setup-dev ## 2000 photos from 50 users
	@$(LOAD) --requests 2000 --concurrent 50 --report $(REPORTS)/load-heavy.html $(ARGUMENTS)

load-test-burst: setup-dev ## 10 bursts of 50 photos, 3 seconds apart
	@$(LOAD) --requests 500 --burst-mode --burst-size 50 --burst-interval 3 --report $(REPORTS)/load-burst.html $(ARGUMENTS)

stress-test: setup-dev ## Raise the rate until requests fail or take longer than a second
	@$(PYTHON) -m tests.load.stress $(ARGUMENTS)

##@ Develop

verify: check test quick-demo ## Before a release: checks, all tests and the tour

api-docs: setup ## Write the OpenAPI document to docs/openapi.json; a running API shows it at /docs
	@flask --app api.app openapi write docs/openapi.json

check: lint type-check ## Formatting, lint, types, import contracts and security, as in CI
	@ruff format --check $(CODE)
	@lint-imports
	@bandit --quiet --configfile pyproject.toml --recursive $(RUNS)

format: setup-dev ## Format the code and fix what ruff can fix
	@ruff check --fix --quiet $(CODE) || true
	@ruff format $(CODE)

lint: setup-dev ## Run ruff
	@ruff check $(CODE)

type-check: setup-dev ## Run mypy
	@mypy

lock: setup-dev ## Lock the dependencies of pyproject.toml; ARGUMENTS=--upgrade upgrades them
	@$(PYTHON) -m scripts.lock $(ARGUMENTS)

screenshots: setup-dev ## Renew docs/screenshots
	@$(PYTHON) -m tests.pictures.screenshots

recording: setup-dev ## Renew docs/images/crash.svg: a worker is killed while it holds requests
	@$(PYTHON) -m tests.pictures.recording

clean: ## Delete caches of tools and compiled files
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
