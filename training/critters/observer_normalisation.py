"""The observer's batch normalisations, before and after its training.

An observer is stored without them, folded into its convolutions.  To train one further they are put back in such a way
that nothing changes; afterwards their statistics are measured anew, since the averaged weights never had any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from scalecrafter.evaluation.observer_network import ObserverNetwork, Unit


@torch.no_grad()
def unfold(network: ObserverNetwork, stored: ObserverNetwork, batches: Iterable[Tensor]) -> None:
    """Give `network`, fresh and with normalisations, the weights of a stored one without.

    Every normalisation gets the mean and variance that its convolution's outputs have on the batches, and undoes them
    with its own scale and shift: the network answers as the stored one does.
    """
    outputs = {name: unit.convolution for name, unit in stored.named_modules() if isinstance(unit, Unit)}
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in outputs}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            value = output.float()
            seen[name].append((value.mean((0, 2, 3)), value.square().mean((0, 2, 3))))

        return hook

    hooks = [convolution.register_forward_hook(keep(name)) for name, convolution in outputs.items()]
    for batch in batches:
        stored(batch)
    for hook in hooks:
        hook.remove()

    network.load_state_dict(stored.state_dict(), strict=False)
    for name, moments in seen.items():
        mean, square = (torch.stack(kind).mean(0) for kind in zip(*moments, strict=True))
        norm = network.get_submodule(name).norm
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(square - mean.square())
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(mean)


@torch.no_grad()
def measure(network: ObserverNetwork, batches: Iterable[Tensor]) -> None:
    """Set every normalisation's mean and variance to those over the batches, and the network to evaluation."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all batches
    network.train()
    for batch in batches:
        network(batch)
    network.eval()
