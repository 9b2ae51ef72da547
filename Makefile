# Two commands do everything on a fresh machine: `make demo` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help bootstrap browser demo demo-down lint types test model unit long-test kuscia-test kuscia-live ubuntu-test e2e faults screenshots bench soak docs release clean
RUN := .venv/bin/
export KUSCIA_NODES KUSCIA_SOURCE

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

bootstrap:
	@tools/bootstrap

demo: bootstrap  ## two institutions, two real SecretFlow jobs, start to end
	@$(RUN)consortium demo up

demo-down:  ## take the demo down, its data included
	@$(RUN)consortium demo down

lint:  ## ruff and ansible-lint
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	PATH="$(CURDIR)/.venv/bin:$$PATH" $(RUN)ansible-lint --offline -q roles

types:  ## mypy, strict
	$(RUN)mypy

browser:
	@tools/bootstrap browser ssh

test: bootstrap browser lint types  ## everything that must be green, the two-party end-to-end run included (long-test, kuscia-test and ubuntu-test are apart)
	$(RUN)pytest tests -m 'not kubernetes and not long and not ubuntu' --cov --cov-report=term

model: bootstrap  ## the long search over schedules of the protocol: 100,000 of them (COUNT=n for another number)
	$(RUN)python tests/coordinator/model_search.py $(or $(COUNT),100000)

unit: bootstrap browser  ## the tests that need no container
	$(RUN)pytest tests -m 'not docker and not e2e and not pulumi and not kubernetes and not ubuntu'

long-test: bootstrap browser  ## what make test has no minutes for: an upgrade, keys, members, workers on machines, Kuscia's node, database, crashes and components, 200 jobs, a minute of soak
	$(RUN)pytest tests -m 'long and not kubernetes'

kuscia-test: bootstrap  ## Kuscia's objects before a real Kubernetes API server, which is built first: minutes, once
	@tools/bootstrap kubernetes
	$(RUN)pytest tests/kuscia

ubuntu-test: bootstrap  ## Ubuntu 22.04 and 24.04 as hosts, from bare, made from Ubuntu's archive: minutes, needs root
	@tools/bootstrap browser ssh
	$(RUN)pytest tests/hosts/test_ubuntu.py

kuscia-live: bootstrap  ## the client against a real Kuscia: KUSCIA_NODES=FILE, or KUSCIA_SOURCE=CHECKOUT to build one; Error 3 = skipped
	@$(RUN)python -m tests.kuscia.live

e2e: bootstrap  ## only the end-to-end run
	$(RUN)pytest tests/e2e

faults: bootstrap  ## every fault in every phase of a job: docs/faults.md from a real run of hours (ONLY='cut both', RESUME=1)
	$(RUN)python -m testing.matrix $(if $(ONLY),--only '$(ONLY)') $(if $(RESUME),--resume)

screenshots: bootstrap browser  ## the pictures in docs/images, from a real run
	$(RUN)python tests/page/screenshots.py docs/images

bench: bootstrap  ## benchmarks: JSON in benchmarks/results, a table on the screen
	$(RUN)python -m benchmarks

soak: bootstrap  ## jobs under random faults (MINUTES=30 SEED=n PARTIES=2): nothing may hang, diverge, leak or grow
	$(RUN)python -m benchmarks.soak --minutes $(or $(MINUTES),30) --parties $(or $(PARTIES),2) $(if $(SEED),--seed $(SEED))

docs: bootstrap  ## the site of docs/ in .site, strictly
	NO_MKDOCS_2_WARNING=1 $(RUN)python -m mkdocs build --strict --quiet
	@echo "built: .site/index.html"

release: bootstrap  ## dist/: wheel, source tarball, SHA256SUMS, from a clean tree
	@tools/release

clean:  ## what tests and lint left behind
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* coverage.json
