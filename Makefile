.PHONY: run test lint bench check miri

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

# Only the portable kernels: Miri interprets no vector intrinsics. Isolation is off because proptest
# reads the environment.
miri:
	@cargo +nightly miri --version >/dev/null 2>&1 || { \
		echo "no Miri here, nothing was checked; it comes with:" >&2; \
		echo "    rustup toolchain install nightly --component miri,rust-src" >&2; \
		exit 1; \
	}
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --locked --lib engine::kernels
