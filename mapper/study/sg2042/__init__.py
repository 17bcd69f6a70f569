"""The SG2042 study: what the published pipelines of submodels gain there over PyTorch's own parallelism, by a model of
the machine whose every number is cited or said to be assumed."""
