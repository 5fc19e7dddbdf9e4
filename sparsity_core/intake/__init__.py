"""What comes from outside: checkpoints, models, data and results that nobody here has seen."""
