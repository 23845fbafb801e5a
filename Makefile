.PHONY: run test lint bench check

run:
	cargo run --release

test:
	cargo test

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo deny --log-level error check bans licenses sources

bench:
	cargo bench --bench engine
	cargo bench --bench load

check:
	bash .ci/run
