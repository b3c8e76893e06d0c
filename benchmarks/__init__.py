"""What things cost, as ratios measured in one run. ``python -m benchmarks`` runs them all."""
