"""A network as a pure function of one flat parameter vector.

Shapes: P parameters, N images (M in a minibatch), C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import copy

from torch import nn
from torch.func import functional_call

from gz_lightning.errors import InputError
from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.convnet_derivatives import ConvNetDerivatives
from gz_lightning.networks.derivatives import Derivatives, Keep, Labels, Step
from gz_lightning.shapes import Float, Tensor


class FunctionalNetwork:
    """``logits = network(theta, images)``, theta being all parameters in the order of the network, one after the other.

    It is no ``nn.Module`` on purpose: a student registered as a submodule would look like unused parameters to DDP.

    Args:
        network: Gives structure and shapes; the values of its parameters are not used.

    Raises:
        InputError: If the network has buffers, such as running statistics: it is no function of its parameters alone.

    Example:
        >>> import torch
        >>> convnet = ConvNet(num_classes=5, resolution=32, width=8)
        >>> network = FunctionalNetwork(convnet)
        >>> network(network.parameters_of(convnet), torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """

    def __init__(self, network: nn.Module) -> None:
        buffers = [name for name, _ in network.named_buffers()]
        if buffers:
            raise InputError(
                f"{type(network).__name__} keeps {', '.join(buffers[:3])} beside its parameters; "
                "an unroll needs a network without running statistics (such as instance norm)"
            )
        self.module = copy.deepcopy(network).to("meta")
        self.shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        self.num_parameters = sum(self.sizes)
        # A subclass may compute something else: only a ConvNet itself has its derivatives written out.
        self.derivatives = ConvNetDerivatives(self, network) if type(network) is ConvNet else Derivatives(self)
        """First and second derivatives of the loss, for the unroll."""

    def __call__(self, theta: Float[Tensor, " P"], images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N K"]:
        """Logits at parameters theta."""
        parts = theta.split(self.sizes)
        parameters = {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        return functional_call(self.module, parameters, (images,))  # type: ignore[no-any-return]

    def linearise(
        self, theta: Float[Tensor, " P"], images: Float[Tensor, "M C H W"], labels: Labels, keep: Keep = "everything"
    ) -> Step:
        """A step of SGD from theta, linearised: see :meth:`gz_lightning.networks.derivatives.Derivatives.linearise`.

        Example:
            >>> import torch
            >>> convnet = ConvNet(num_classes=2, resolution=8, width=4, depth=1)
            >>> network, theta = FunctionalNetwork(convnet), FunctionalNetwork.parameters_of(convnet)
            >>> step = network.linearise(theta, torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 1]), keep="outline")
            >>> step.gradient.shape, step.products(step.gradient).to_images.shape
            (torch.Size([250]), torch.Size([3, 3, 8, 8]))
        """
        return self.derivatives.linearise(theta, images, labels, keep)

    @staticmethod
    def parameters_of(network: nn.Module) -> Float[Tensor, " P"]:
        """The parameters of a network as theta: a copy that does not change with the network."""
        return nn.utils.parameters_to_vector(p.detach() for p in network.parameters()).clone()
