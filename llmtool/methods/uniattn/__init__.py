"""UniAttn (Xiong et al., arXiv 2502.00439): later layers reuse the softmax of an earlier one, keep no keys, and are
compensated by one linear map each."""
