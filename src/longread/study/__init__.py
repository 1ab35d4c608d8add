"""Many runs: grids, benchmarks by length."""
