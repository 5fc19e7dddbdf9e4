"""Making a pruned model really smaller, and writing it down smaller."""
