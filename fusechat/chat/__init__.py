"""Conversations as text, tokens and bytes: the one place that knows chat templates and tokenizers.

`parse` reads dataset rows of every format into one form; `render.ChatTokenizer` puts a conversation into a model's own
template and locates each loss-carrying token in its message's bytes; `vocabulary` gives every id its bytes and role.
No model, no logits, no files but the tokenizer's. Importing a module of this package imports neither torch nor
transformers.
"""
