"""How good models are on held-out conversations, and whether a difference is more than chance.

`bits_per_byte` scores text, `tasks` grades answers, `compare` puts models side by side with the paired intervals of
`bootstrap`. `results` is what one evaluation leaves behind; reading it needs no torch.
"""
