# Inferlane: `make help` lists the targets. Settings come from the environment or .env, see .env.example.

VENV ?= .venv
PYTHON := $(VENV)/bin/python
RUN := $(PYTHON) -m scripts
CLIENT := $(RUN) client
LOAD := $(PYTHON) tests/load_test.py
REPORTS := .run/reports
# Test files run side by side: most of them wait for processes to start or die. One that fails runs once more, and the
# closing line counts it as a rerun: on a crowded machine a deadline can pass for no fault of the project. Hundreds of
# processes start, so their compiled modules are kept even where the environment says not to: `make clean` deletes them.
# The order of files is that of tests/conftest.py, the long ones first.
TEST_PROCESSES ?= 4
RUNS := common celeryconfig.py api inferlane dashboard scripts tasks worker_models
CODE := $(wildcard *.py) $(wildcard common api inferlane dashboard tasks worker_models scripts tests bench deploy)
export PATH := $(abspath $(VENV)/bin):$(PATH)

.DEFAULT_GOAL := help
# Every target is a command.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

##@ Start here

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: start ## Set up, start, and classify a photo of a cat through the real system
	@$(PYTHON) -m scripts.demo

quick-demo: setup ## Show everything in a minute or two, on a temporary system if none runs; leaves nothing running
	@$(PYTHON) -m scripts.demo --quick

demo-menu: setup ## The same, one scene at a time
	@$(PYTHON) -m scripts.demo --menu

PYTEST = PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile \
  --no-loadscope-reorder --reruns 1
# What concerns the broker, for a run on another server than the bundled Valkey.
BROKER_TESTS := tests/integration/tasks tests/integration/test_broker.py tests/integration/test_unsupported_servers.py \
  tests/integration/test_several_systems.py $(addprefix tests/integration/api/test_,doctor.py keys.py outages.py store.py)

test: setup-dev ## Run all tests, on the bundled Valkey
	@$(PYTEST) $(PYTEST_ARGUMENTS)

test-redis: setup-dev ## Run those that concern the broker on this machine's redis-server
	@REDIS_SERVER=$(or $(REDIS_SERVER),redis-server) $(PYTEST) $(BROKER_TESTS) $(PYTEST_ARGUMENTS)

setup: ## Make the virtual environment and install what runs Inferlane
	@VENV=$(VENV) scripts/setup.sh

install: setup models ## setup, and get the models ready

setup-dev: ## setup, and what tests and checks it
	@VENV=$(VENV) scripts/setup.sh dev

models: setup ## Find weights, export graphs, and say which models are ready
	@$(PYTHON) -m worker_models prepare

##@ Running it

start: setup ## Start everything; returns when all of it answers
	@$(RUN) start $(addprefix --without ,$(WITHOUT))

stop: ## Stop everything; nothing is left running
restart: setup ## Stop and start

coordinator: setup ## Only the API and a broker if none answers, in the foreground
	@honcho start broker api

dashboard: setup ## Only the dashboard, in the foreground
	@honcho start dashboard

scale: ## Run more or fewer workers of a model: make scale mobilenet=3
	@$(RUN) scale $(foreach pair,$(MAKEOVERRIDES),$(if $(filter VENV=% PYTHON=%,$(pair)),,$(pair)))

status: ## One line per process
logs: ## Follow all logs
reset: ## Stop everything and delete queued requests, records and logs
stop status logs reset:
	@$(RUN) $@

health: ## The system in one word, with the reasons; 1 when it is unhealthy
	@$(CLIENT) status

workers-status: ## Every live worker, as the API sees it
	@$(CLIENT) workers

queue-status: ## The backlog, by priority and lane
	@$(CLIENT) queues

metrics: ## Counters and latencies
monitor: setup ## Health, workers, lanes and latencies in the terminal, every second
doctor: setup ## What is wrong with this installation, as far as the API shows
metrics monitor doctor:
	@$(CLIENT) $@

test-inference: ## Classify the photo of a cat on the running system
	@$(PYTHON) -m scripts.demo

simulate-crash: ## Kill a worker with SIGKILL and watch it come back
	@$(RUN) crash

chaos-enable: setup ## Restart with fault injection on; orders need ADMIN_KEY or the Celery CLI
chaos-disable: setup ## Restart with fault injection off
chaos-enable: export CHAOS_ENABLED = 1
chaos-disable: export CHAOS_ENABLED = 0
restart chaos-enable chaos-disable:
	@$(RUN) restart $(addprefix --without ,$(WITHOUT))

##@ Proving it

resilience: setup-dev ## Workers die, the network breaks, load doubles: minutes, and each test is shown to fail on a fault
	@$(PYTHON) -m pytest -v tests/test_resilience.py $(PYTEST_ARGUMENTS)

benchmark: setup-dev ## Measure the system against its own in-process limit, 8 minutes; writes bench/results
	@$(PYTHON) -m bench --model $(or $(MODEL),mobilenet) $(ARGUMENTS)

benchmark-peers: setup-dev ## Measure it beside LitServe, BentoML, Ray Serve, Celery, Dramatiq and RQ, 12 minutes
	@$(PYTHON) -m bench.peers --model $(or $(MODEL),mobilenet) $(ARGUMENTS)

benchmark-growth: setup-dev ## Measure 100 to 100,000 queued requests and 1 to 64 workers
	@$(PYTHON) -m bench --parts growth workers --minutes 8 --workers 64 --repeats 2 $(ARGUMENTS)

benchmark-overload: setup-dev ## Offer twice the capacity for three minutes
	@$(PYTHON) -m bench --parts overload --minutes 6 --overload-seconds 180 --model $(or $(MODEL),mobilenet) $(ARGUMENTS)

chaos: setup-dev ## 100 random kills under 10,000 requests: long, writes .run/reports/chaos.md and .json
	@$(PYTHON) -m tests.chaos.soak --kills 100 --requests 10000 --report .run/reports/chaos

open-page: setup-dev ## Keep the dashboard open in a browser for MINUTES (30) and see that it does not grow
	@$(PYTHON) -m tests.e2e.dashboard.open_page --minutes $(or $(MINUTES),30) --report .run/reports/open-page.json

##@ Containers

# The password and the keys come from .env, see docs/deploying.md; PROFILES="observability cuda" adds services.
docker-build: ## Build the images
docker-up: ## Start everything in containers; returns when all of it is healthy
docker-down: ## Stop the containers; queued requests stay in their volume
docker-logs: ## Follow the containers' logs
docker-ps: ## One line per container, with its health
docker-build docker-down docker-ps: COMMAND = $(@:docker-%=%)
docker-up: COMMAND = up --detach --wait
docker-logs: COMMAND = logs --follow --tail 50
docker-down: override PROFILES = "*"
docker-build docker-up docker-down docker-logs docker-ps:
	@docker compose version >/dev/null 2>&1 || { echo "docker compose is not installed here: see docs/deploying.md" >&2; exit 1; }
	@docker compose $(addprefix --profile ,$(PROFILES)) $(COMMAND)

##@ Loading it (a running system; ARGUMENTS="--rate 20 --max-p95 0.5" adds to each)

load-test: setup-dev ## 100 photos from 10 users; 1 when an answer is wrong or missing
	@$(LOAD) --requests 100 --concurrent 10 $(ARGUMENTS)

load-test-heavy: setup-dev ## 2000 photos from 50 users
	@$(LOAD) --requests 2000 --concurrent 50 --report $(REPORTS)/load-heavy.html $(ARGUMENTS)

load-test-burst: setup-dev ## 10 bursts of 50 photos, 3 seconds apart
	@$(LOAD) --requests 500 --burst-mode --burst-size 50 --burst-interval 3 --report $(REPORTS)/load-burst.html $(ARGUMENTS)

stress-test: setup-dev ## Raise the rate until answers fail or take longer than a second
	@$(PYTHON) -m tests.load.stress $(ARGUMENTS)

##@ Developing it

verify: check test quick-demo ## Everything before a release: checks, all tests with resilience and chaos, the tour

api-docs: setup ## Write the OpenAPI document to docs/openapi.json; a running API shows it at /docs
	@$(PYTHON) -m scripts.openapi

check: lint type-check ## Formatting, lint, types and import directions: what CI checks
	@ruff format --check $(CODE)
	@lint-imports
	@bandit --quiet --configfile pyproject.toml --recursive $(RUNS)

format: setup-dev ## Format the code and fix what ruff can fix
	@ruff check --fix --quiet $(CODE) || true
	@ruff format $(CODE)

lint: setup-dev ## ruff only
	@ruff check $(CODE)

type-check: setup-dev ## mypy only
	@mypy

lock: setup-dev ## Pin what pyproject.toml needs, with hashes; ARGUMENTS=--upgrade renews all
	@$(PYTHON) -m scripts.lock $(ARGUMENTS)

screenshots: setup-dev ## Take the pictures of the dashboard in docs/screenshots again
	@$(PYTHON) -m tests.pictures.screenshots

recording: setup-dev ## Record docs/images/crash.svg again: a worker killed with requests in its hands
	@$(PYTHON) -m tests.pictures.recording

clean: ## Delete caches of tools and compiled files; requests and models stay
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
