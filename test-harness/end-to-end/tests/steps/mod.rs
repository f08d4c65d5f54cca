mod load;
mod processes;
