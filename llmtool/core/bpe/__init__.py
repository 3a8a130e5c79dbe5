"""Plain BPE: vocabulary, pre-tokenizers, counting, merge loop, encoder; native/ is the C++ engine."""
