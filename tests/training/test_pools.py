"""Replay pools against the rule, told one code at a time."""

import torch

from wplus.training.encoder import LatentPool


def slow_rule(batches: list[torch.Tensor], size: int, seed: int) -> tuple[list[float], list[float]]:
    """(answers, pool) for codes of one number: stored while there is room, later exchanged in half of the cases."""
    pool, answers = [], []
    for number, batch in enumerate(batches):
        torch.manual_seed(seed + number)
        coins, places = torch.rand(len(batch)).tolist(), torch.randint(size, (len(batch),)).tolist()
        for value, coin, runtime in zip(batch.flatten().tolist(), coins, places, strict=True):
            if len(pool) < size:
                pool.append(value)
                answers.append(value)
            elif coin > 0.5:
                answers.append(pool[runtime])
                pool[runtime] = value
            else:
                answers.append(value)
    return answers, pool


def test_the_rule():
    batches = list(torch.arange(60.0).view(-1, 1).split(4))
    pool, answers = LatentPool(10, 1), []
    for number, batch in enumerate(batches):
        torch.manual_seed(3 + number)
        answers += pool.query(batch, seen=4 * number).flatten().tolist()
    expected, kept = slow_rule(batches, 10, seed=3)
    assert answers == expected
    assert pool.latents.flatten().tolist() == kept
    assert answers[:10] == list(range(10))
    exchanged = sum(answer != value for value, answer in zip(range(60), answers, strict=True))
    assert 15 <= exchanged <= 35


def test_no_pool_gives_back_what_it_is_given():
    codes = torch.randn(4, 3)
    assert torch.equal(LatentPool(0, 3).query(codes, seen=0), codes)


def test_codes_that_come_back_are_copies():
    """A pool that stored views would change with the next batch."""
    pool, codes = LatentPool(4, 2), torch.zeros(4, 2)
    answers = pool.query(codes, seen=0)
    codes += 1
    assert pool.latents.sum() == answers.sum() == 0
