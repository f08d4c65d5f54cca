mod archives;
mod listeners;
mod packages;
mod processes;
mod recipes;
mod servers;
