#!/usr/bin/env bash
# `make check`: everything that can be judged without running the program. Stops at the first complaint.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$1"; shift; "$@"; }

step "format" cargo fmt --all --check
step "format: the Rust SDK's program" cargo fmt --manifest-path tests/e2e/rust/Cargo.toml --check
step "arrows between crates, links in the docs" cargo test --quiet --locked -p antiphon-base --test arrows --test tidy
step "clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
step "clippy without AV1" cargo clippy -p antiphon-server --no-default-features --locked -- -D warnings
RUSTDOCFLAGS="-D warnings" step "documentation" cargo doc --workspace --no-deps --locked --quiet
step "the runner of the tests" python3 -m unittest discover --quiet -s scripts
step "TypeScript: types" npm run --silent typecheck
step "TypeScript: lint" npm run --silent lint
# Licences, advisories, duplicates: a developer's tool, not demanded of a user's machine.
if command -v cargo-deny >/dev/null; then
    step "dependencies" cargo deny --offline check bans licenses sources
    # Its 100 crates are not built a second time for clippy.
    step "dependencies of the Rust SDK's program" cargo deny --offline --manifest-path tests/e2e/rust/Cargo.toml check \
        --config deny.toml bans licenses sources
fi
printf '\ncheck: all good\n'
