"""The book's machinery: runner, records against baselines, benchmarks, site, and the command line `densebook`."""
