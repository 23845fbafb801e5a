# The server as one static binary in an image that holds nothing else.
#
#     docker build -t safeserve:0.1.0 .                             the server, without models
#     docker build -t safeserve-samples:0.1.0 --target samples .    with the models of models/
#
# Build arguments name what another site has to replace:
#
#     BUILD_IMAGE     Rust's toolchain and a C compiler
#     RUNTIME_IMAGE   what lies under the binary; nothing by default
#     FEATURES        cargo's features; what a server does not need (train, import, ...) is left out
#     REVISION        the commit, for the image's label
#
# On amd64 it computes with AVX-512 or AVX2, on arm64 with NEON; the program asks the CPU when it starts.
# `docker build --platform linux/arm64 .` compiles on the builder's own architecture for the other one, without
# emulation. Docker's old builder knows no platforms: there `--build-arg TARGETARCH=arm64` does the same, but for
# the architecture in the image's description.

ARG BUILD_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=scratch

FROM --platform=${BUILDPLATFORM:-linux/amd64} ${BUILD_IMAGE} AS build
ARG TARGETARCH
ARG FEATURES="compression,grpc,swagger-ui"
# A static binary, also with glibc, whose allocator the server's memory is measured with.
ENV RUSTFLAGS="-C target-feature=+crt-static" \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
WORKDIR /build
# The flags of both builds below, which must not differ: the second uses what the first compiled. A target is
# named even if it is the builder's own, since RUSTFLAGS must not reach build scripts and macros.
RUN host="$(rustc -vV | sed -n 's/^host: //p')" \
    && case "$TARGETARCH" in \
        amd64) target="x86_64-${host#*-}" ;; \
        arm64) target="aarch64-${host#*-}" ;; \
        "") target="$host" ;; \
        *) echo "TARGETARCH: expected amd64 or arm64, got $TARGETARCH" >&2; exit 1 ;; \
    esac \
    && if [ "$target" = aarch64-unknown-linux-gnu ] && ! command -v aarch64-linux-gnu-gcc > /dev/null; then \
        apt-get update && apt-get install -y --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross; \
    fi \
    && if [ "$target" != "$host" ] && command -v rustup > /dev/null; then rustup target add "$target"; fi \
    && echo "--profile dist --locked --bin safeserve --no-default-features --features $FEATURES --target $target" > flags

# The dependencies, in a layer that changes of the sources leave alone. Cargo wants a file for each target of the
# manifest, so the benchmarks leave it.
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
RUN sed -i '/^\[\[bench\]\]/,/^$/d' Cargo.toml \
    && mkdir src && : > src/lib.rs && echo 'fn main() {}' > src/main.rs \
    && cargo build $(cat flags)

COPY config config
COPY src src
# The sources may be older than the placeholders above.
RUN touch src/main.rs src/lib.rs && cargo build $(cat flags) && cp target/*/dist/safeserve .

FROM ${RUNTIME_IMAGE} AS server
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="safeserve" \
      org.opencontainers.image.description="Serves safetensors models over HTTP on CPUs" \
      org.opencontainers.image.source="https://github.com/safeserve/safeserve" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /build/safeserve /safeserve
COPY LICENSE /LICENSE
# Numbers, so that an orchestrator sees that this is not root without a file of users.
USER 65532:65532
# A container is reached from outside or not at all. All other settings keep their defaults.
ENV SAFESERVE__SERVER__BIND=0.0.0.0:8080 \
    SAFESERVE__MODELS__DIR=/models
# Clients; health and metrics, with SAFESERVE__OPERATIONS__BIND=0.0.0.0:8081; gRPC, with
# SAFESERVE__GRPC__BIND=0.0.0.0:9000.
EXPOSE 8080 8081 9000
STOPSIGNAL SIGTERM
# It asks where these settings listen, so addresses belong into the environment, not into flags. Three failures take
# 10 s at least, longer than server.drain_delay_ms.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/safeserve", "health"]
ENTRYPOINT ["/safeserve"]

FROM server AS samples
COPY models /models

# What is built if no target is named.
FROM server
