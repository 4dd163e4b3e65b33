"""The teacher-forced forward of a causal language model that computes only the logits that are asked for.

Most of a conversation is prompt, and one row of logits is V numbers wide, so the output layer runs only on the hidden
states of the wanted rows. A forward pre-hook on the output layer picks them. What a model's own forward does behind the
output layer (soft-capping, logit scaling) is untouched, so this holds for every architecture without knowing it. Where
the rows are more than one block, the hook keeps the hidden states and feeds the later blocks through the model's
forward again, behind the pass of a single token.

Legend: B = rows of a batch, L = padded tokens, N = wanted rows of logits, H = hidden size, V = the output layer's size.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from fusechat.errors import AcceleratorOutOfMemoryError, ConfigurationError

LOGITS_BYTES = 1 << 30
"""Default bound of one block of float32 logits."""

BYTES_OF_FLOAT32 = 4


def output_size(model: PreTrainedModel) -> int:
    """V: rows of the output layer, which may be padded beyond the tokenizer's vocabulary."""
    head = _head(model)
    # A quantized weight is packed: only the layer knows its own size.
    size = getattr(head, "out_features", None)
    return int(size or model.config.get_text_config().vocab_size)


def context_size(model: PreTrainedModel) -> int | None:
    """Tokens that the model's positions reach; None where they have no end."""
    size = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(size) if size else None


def input_device(model: PreTrainedModel) -> torch.device:
    """Where token ids go. The host for an offloaded embedding: accelerate's hooks take them from there."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return torch.device("cpu") if weight.is_meta else weight.device


def _head(model: PreTrainedModel) -> torch.nn.Module | None:
    head: torch.nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return head


def wanted_logits(
    model: PreTrainedModel,
    input_ids_BL: torch.Tensor,
    attention_mask_BL: torch.Tensor,
    wanted_N: torch.Tensor,
    *,
    logits_bytes: int = LOGITS_BYTES,
) -> Generator[torch.Tensor, None, None]:
    """Yields blocks [n, V] of the logits at flat positions `wanted_N` (b * L + l), in order, in the model's dtype.

    A block is at most `logits_bytes` as float32, and at least one row; drop it before asking for the next. The caller
    switches gradients off. Raises ConfigurationError for a model whose output layer cannot be used by rows.
    """
    block = max(1, logits_bytes // (BYTES_OF_FLOAT32 * output_size(model)))
    blocks = torch.split(wanted_N, block)
    selection = _HeadRows(tuple(input_ids_BL.shape), wanted_N, block)
    with selection.hooked(model):
        logits = _logits(model, input_ids_BL, attention_mask_BL)
        if not selection.hidden_blocks:
            yield from _gathered(logits, blocks)
            return
        yield _rows(logits, len(blocks[0]))
        for index in range(1, len(blocks)):
            del logits
            selection.block = index
            logits = _logits(model, input_ids_BL[:1, :1], attention_mask_BL[:1, :1])
            yield _rows(logits, len(blocks[index]))


class _HeadRows:
    """The pre-hook: at the first call of the output layer it cuts out the wanted rows and keeps them in blocks."""

    def __init__(self, shape: tuple[int, ...], wanted_N: torch.Tensor, block: int) -> None:
        self.shape = shape
        self.wanted_N = wanted_N
        self.rows = block
        self.hidden_blocks: tuple[torch.Tensor, ...] = ()
        self.block = 0

    @contextmanager
    def hooked(self, model: PreTrainedModel) -> Iterator[None]:
        head = _head(model)
        if head is None:
            yield
            return
        # First in line: a tensor-parallel layer's own hooks must see the rows that it will work on.
        handle = head.register_forward_pre_hook(self, prepend=True)
        try:
            yield
        finally:
            handle.remove()

    def __call__(self, _module: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not self.hidden_blocks:
            hidden = arguments[0] if arguments else None
            if not isinstance(hidden, torch.Tensor) or tuple(hidden.shape[:-1]) != self.shape:
                return None
            wanted_NH = hidden.flatten(0, 1)[self.wanted_N.to(hidden.device)]
            self.hidden_blocks = torch.split(wanted_NH, self.rows)
        return (self.hidden_blocks[self.block].unsqueeze(0), *arguments[1:])


def _logits(model: PreTrainedModel, input_ids_BL: torch.Tensor, attention_mask_BL: torch.Tensor) -> torch.Tensor:
    output = model(input_ids=input_ids_BL, attention_mask=attention_mask_BL, use_cache=False, return_dict=True)
    logits: torch.Tensor = output.logits
    return logits


def _rows(logits_XNV: torch.Tensor, count: int) -> torch.Tensor:
    logits = logits_XNV.flatten(0, -2)
    if len(logits) != count:
        raise ConfigurationError(
            f"The model gave {len(logits)} rows of logits for {count} hidden states of its output layer",
            hint="Its forward does not apply the output layer position by position: it is no plain causal model.",
        )
    return logits


def _gathered(logits_BLV: torch.Tensor, blocks: tuple[torch.Tensor, ...]) -> Iterator[torch.Tensor]:
    """For a model whose output layer is no module of its own: all logits were made, rows are taken from them."""
    logits = logits_BLV.flatten(0, 1)
    for block in blocks:
        yield logits[block.to(logits.device)]


@contextmanager
def out_of_memory_explained() -> Iterator[None]:
    """Turns torch's out-of-memory errors, of accelerator and process, into AcceleratorOutOfMemoryError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise AcceleratorOutOfMemoryError(
            f"The model ran out of memory: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            hint="Lower tokenBudget, use a smaller dtype or quantization, or give the worker more accelerators.",
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    # torch's allocator for the host raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def check_top_k(model: PreTrainedModel, top_k: int) -> None:
    """Raises ConfigurationError when the output layer has fewer than top_k ids."""
    size = output_size(model)
    if not 0 <= top_k <= size:
        raise ConfigurationError(
            f"topK is {top_k}, and the model's output layer has {size} ids", hint=f"Set topK to at most {size}."
        )
