"""Reading rows: arrays in memory, files, batches and dask arrays."""
