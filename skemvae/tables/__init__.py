"""Where rows come from: arrays in memory, files, batches, clusters."""
