//! Feature 140: tests of all binaries together. Everything is in `tests/`.
