.PHONY: run test lint build-times bench bench-serve bench-scale bench-peers reliability soak conformance workflows deploy image check arm64 fuzz miri

run:
	cargo run --release

test:
	cargo test

lint:
	cargo fmt --check
	cargo clippy --all-targets --all-features -- -D warnings
	cargo fmt --check --manifest-path tests/reliability/driver/Cargo.toml
	cargo clippy --manifest-path tests/reliability/driver/Cargo.toml --target-dir target/driver -- -D warnings
	cargo deny --log-level error check bans licenses sources

# What the first two take with a cold cache, and where the time goes; ARGS="release" picks.
build-times:
	benches/build/run $(ARGS)

# The engine against the limits of the machine and ndarray; exits with an error if a network lost more
# than a tenth against benches/engine/baseline.toml.
bench:
	cargo bench --locked --bench engine

# The server against bare handlers, compared with benches/load/baseline.toml; exits with an error if
# a cell lost more than a tenth. ARGS="digits --rounds 9" and so on: see benches/load/main.rs.
bench-serve:
	cargo bench --locked --bench load -- $(ARGS)

# Connections, models, rows a request, start; ARGS="rows start" picks.
bench-scale:
	cargo bench --locked --bench scale -- $(ARGS)

# Other engines and servers compared with this one, from PyPI; ARGS="--plots" draws docs/plots/.
bench-peers:
	benches/peers/run $(ARGS)

# The promises of docs/reliability.md against the real program; ARGS="NAME ..." picks, ARGS=--self-test
# plants faults that each test has to notice. ARGS=--nightly runs those that take longer: a million
# mutations, stops and kills at random moments, 2,000 requests a second through HAProxy.
reliability:
	tests/reliability/run $(ARGS)

# At 70 % of the load for ten minutes, or ARGS=MINUTES: does anything creep? ARGS=--self-test plants leaks.
soak:
	tests/reliability/soak $(ARGS)

# tritonclient, KServe's, TensorFlow Serving's, MLflow's clients and schemathesis, from PyPI, against the
# real program; ARGS="triton_http ..." picks, ARGS=--docs writes docs/compatibility.md.
conformance:
	tests/conformance/run $(ARGS)

# train, import, predict, bench and the exporters of python/ against the frameworks themselves, from PyPI;
# ARGS="train" picks.
workflows:
	tests/workflows/run $(ARGS)

# The image, the compose stack, the manifests, chart, rules and dashboard, with Docker Engine, HAProxy,
# Prometheus, kubectl and helm; ARGS="image" picks.
deploy:
	tests/deploy/run $(ARGS)

# The image of the server; ARGS="--target samples" and so on go to docker build.
image:
	docker build --tag safeserve:0.1.0 --build-arg REVISION=$$(git rev-parse HEAD) $(ARGS) .

check:
	bash .ci/run

# The engine's tests compiled for arm64, with NEON, under qemu-user: the target's standard library comes from
# rustup or Debian, the emulator from Debian. ARGS="NAME" picks other tests.
arm64:
	tests/arm64/run $(ARGS)

# What reads bytes from outside, by cargo-fuzz: each target for FUZZ_SECONDS (300). ARGS="infer keys"
# picks; docs/reliability.md has the last figures.
fuzz:
	fuzz/run $(ARGS)

# Only the portable kernels: Miri interprets no vector intrinsics. Isolation is off because proptest
# reads the environment.
miri:
	@cargo +nightly miri --version >/dev/null 2>&1 || { \
		echo "no Miri here, nothing was checked; it comes with:" >&2; \
		echo "    rustup toolchain install nightly --component miri,rust-src" >&2; \
		exit 1; \
	}
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --locked --lib engine::kernels
