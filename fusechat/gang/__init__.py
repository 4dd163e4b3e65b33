"""Several processes that compute one stage together: torchrun, its ranks, how they meet, how they are stopped."""
