"""Mathematics of mixed-sample augmentation: keys, plans, mixers, matching, blending kernels, embedding MultiMix."""
