"""The lottery: networks found by pruning, trained again from where they came, beside controls."""
