mod callers;
mod disk;
mod hub;
