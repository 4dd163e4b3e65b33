"""A model's representation of conversations: the top-k next-token distribution of each loss-carrying token.

`extract` puts one chunk through a model, `model` loads it, `top_k` is what is stored of its logits. Needs torch.
"""
