"""Sparsity Explorer's library: score, mask, prune, sweep and measure; torch and numpy only."""
