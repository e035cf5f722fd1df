"""A toy language for distilling sequences: the numbers from 0 to 999 in English words, one character at a time."""

from collections.abc import Sequence
from functools import cache, cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.experiments.descent import descend

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
WAYS = ("teacher", "data", "teacher's sequences", "forward KL", "reverse KL")
"""The teacher itself, and what a student can learn from."""
END = 0
"""Index of the character that ends a number; all characters after it are ``END`` too."""


def in_words(number: int) -> str:
    """Write a number from 0 to 999: 42 is "forty-two"."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10 - 2] + (f"-{_ONES[number % 10]}" if number % 10 else "")
    return f"{_ONES[number // 100]} hundred" + (f" and {in_words(number % 100)}" if number % 100 else "")


@cache
def _language() -> tuple[str, int, frozenset[str]]:
    """The characters, the longest sequence with its end, and all numbers."""
    numbers = [in_words(number) for number in range(1000)]
    return "\n" + "".join(sorted(set("".join(numbers)))), max(map(len, numbers)) + 1, frozenset(numbers)


def encode(texts: Sequence[str]) -> Tensor:
    """Turn texts into indices of characters, N×L int64, each filled up with ``END``."""
    characters, length, _ = _language()
    return torch.tensor([[characters.index(letter) for letter in text.ljust(length, "\n")] for text in texts])


def decode(sequences: Tensor) -> list[str]:
    """Turn N×L indices back into texts, without their ends."""
    characters = _language()[0]
    return ["".join(characters[index] for index in row).partition("\n")[0] for row in sequences.tolist()]


class CharacterModel(nn.Module):
    """Predict the next character from the last ``context`` ones with one hidden layer (Bengio et al., 2003).

    Args:
        context: characters that it sees.
        width: units of the hidden layer.
        seed: of the weights.
    """

    def __init__(self, context: int, width: int, seed: int) -> None:
        super().__init__()
        self.context = context
        symbols = len(_language()[0])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Embedding(symbols, 8)
            self.layers = nn.Sequential(nn.Linear(8 * context, width), nn.ReLU(), nn.Linear(width, symbols))

    def forward(self, sequences: Tensor) -> Tensor:
        """Return the logits of each character given those before it: N×L to N×L×symbols."""
        seen = F.pad(sequences, (self.context, 0))[:, :-1].unfold(1, self.context, 1)
        return self.layers(self.embed(seen).flatten(2))

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw sequences, count×L."""
        drawn = torch.full((count, self.context), END)
        for _ in range(_language()[1]):
            logits = self.layers(self.embed(drawn[:, -self.context :]).flatten(1))
            drawn = torch.cat([drawn, torch.multinomial(logits.softmax(1), 1, generator=generator)], dim=1)
        drawn = drawn[:, self.context :]
        return drawn.masked_fill((drawn == END).cumsum(1) > 0, END)


def written(sequences: Tensor) -> Tensor:
    """Mark the characters that count, N×L: all up to the first ``END``, and that one."""
    return (sequences == END).cumsum(1) - (sequences == END).long() == 0


def next_character_loss(model: CharacterModel, sequences: Tensor) -> Tensor:
    """Cross-entropy of each character given those before it, in nats."""
    counts = written(sequences)
    return F.cross_entropy(model(sequences)[counts], sequences[counts])


def divergence(student: CharacterModel, teacher: CharacterModel, sequences: Tensor, *, reverse: bool = False) -> Tensor:
    """Mean KL divergence of the next character at every place of some sequences: forward, KL(teacher ‖ student).

    Args:
        sequences: N×L, from the data, the teacher or the student.
        reverse: take KL(student ‖ teacher) instead.
    """
    counts = written(sequences)
    with torch.no_grad():
        log_p = teacher(sequences)[counts].log_softmax(1)
    log_q = student(sequences)[counts].log_softmax(1)
    if reverse:
        log_p, log_q = log_q, log_p
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()


def score_samples(model: CharacterModel, generator: torch.Generator, count: int = 1000) -> dict[str, float]:
    """Sample numbers: ``valid``, the percentage that are numbers, and ``distinct``, how many different ones."""
    valid = [text for text in decode(model.sample(count, generator)) if text in _language()[2]]
    return {"valid": 100 * len(valid) / count, "distinct": len(set(valid))}


class Words:
    """The teacher of the toy language, and what its students share.

    Args:
        seed: of weights and samples.
    """

    STEPS, RATE, BATCH = 400, 0.02, 64
    FIRST = 100  # on data, so that a student's own samples resemble numbers when it begins to learn from them

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.numbers = encode([in_words(number) for number in range(1000)])

    def batch(self, sequences: Tensor, draw: torch.Generator) -> Tensor:
        """Draw sequences with replacement."""
        return sequences[torch.randint(len(sequences), (self.BATCH,), generator=draw)]

    @cached_property
    def teacher(self) -> CharacterModel:
        """A model that sees the whole number."""
        model, draw = CharacterModel(24, 96, 1000 + self.seed), torch.Generator().manual_seed(self.seed)
        descend(model, lambda: next_character_loss(model, self.batch(self.numbers, draw)), steps=800, rate=0.01)
        return model

    @cached_property
    def samples(self) -> Tensor:
        """A thousand sequences that the teacher has written."""
        return self.teacher.sample(1000, torch.Generator().manual_seed(1000 + self.seed))

    def student(self, way: str) -> CharacterModel:
        """Train a model that sees four characters in one of the ways of :data:`WAYS`; the teacher is one of them."""
        if way == "teacher":
            return self.teacher
        model, draw = CharacterModel(4, 12, self.seed), torch.Generator().manual_seed(2000 + self.seed)
        losses = {
            "data": lambda: next_character_loss(model, self.batch(self.numbers, draw)),
            "teacher's sequences": lambda: next_character_loss(model, self.batch(self.samples, draw)),
            "forward KL": lambda: divergence(model, self.teacher, self.batch(self.samples, draw)),
            "reverse KL": lambda: divergence(model, self.teacher, model.sample(self.BATCH, draw), reverse=True),
        }
        first = self.FIRST if way == "reverse KL" else 0
        descend(model, losses["data"], steps=first, rate=self.RATE)
        descend(model, losses[way], steps=self.STEPS - first, rate=self.RATE)
        return model

    def score(self, way: str) -> dict[str, float]:
        """Score one of the ways on a thousand samples."""
        return score_samples(self.student(way), torch.Generator().manual_seed(3000 + self.seed))
