//! Feature 140: black box over the four programs. Everything is in `tests/`.
