"""Small models in teaching style, how they were trained, and their trained weights."""
