"""CartesianMoE (Su et al., NAACL 2025, arXiv 2410.16077): two routed sub-layers in place of one."""
