"""One module a topic; each has `run(full, say) -> rows`."""
