"""The shared library; imports point down: train, eval, bench > corpus, model > kernels, checkpoint, bpe > run."""
