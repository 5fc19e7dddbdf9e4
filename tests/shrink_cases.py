"""Small networks of every wiring, with whole outputs set to zero."""

import copy

import torch
from torch import Tensor, nn


def seeded(build):
    torch.manual_seed(0)
    model = build().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as training leaves it: shifts and scales
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def zeroed(model, outputs):
    """The model with these outputs of these layers zeroed, biases too: {path: [outputs]}."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for path, rows in outputs.items():
            module = model.get_submodule(path)
            module.weight[rows] = 0
            if module.bias is not None:
                module.bias[rows] = 0
    return model


IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(3))


class Wired(nn.Module):
    """Modules by name, and what to do with them: `wiring(self, x)`."""

    def __init__(self, wiring, **modules) -> None:
        super().__init__()
        self.wiring = wiring
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.wiring(self, x)


def conv(*a, **k):
    return nn.Conv2d(*a, **k)


def chain():
    return Wired(
        lambda m, x: m.fc(m.b(m.a(x).relu()).relu().flatten(1)),
        a=conv(3, 6, 3),
        b=conv(6, 5, 3),
        fc=nn.Linear(5 * 16, 4),
    )


def residual():
    return Wired(
        lambda m, x: m.fc((m.n2(m.b(m.n1(m.a(x)).relu())) + m.side(x)).relu().mean((2, 3))),
        a=conv(3, 6, 3, padding=1, bias=False),
        n1=nn.BatchNorm2d(6),
        b=conv(6, 6, 1, bias=False),
        n2=nn.BatchNorm2d(6),
        side=conv(3, 6, 1),
        fc=nn.Linear(6, 4),
    )


def concatenated():
    return Wired(
        lambda m, x: m.c(torch.cat([m.a(x).relu(), m.b(x)], 1)).amax((2, 3)),
        a=conv(3, 4, 1),
        b=conv(3, 5, 1),
        c=conv(9, 4, 3, padding=1),
    )


def depthwise():
    return Wired(
        lambda m, x: m.c(m.n(m.b(m.a(x).relu())).relu()).mean((2, 3)),
        a=conv(3, 6, 1),
        b=conv(6, 12, 3, padding=1, groups=6),
        n=nn.BatchNorm2d(12),
        c=conv(12, 4, 1),
    )


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = conv(8, 4, 1), conv(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.down(x.mean((2, 3), keepdim=True)).relu()
        return x * self.up(squeezed).sigmoid()


def gated():
    """Squeeze and excitation."""
    return Wired(
        lambda m, x: m.c(m.gate(m.a(x).relu())).mean((2, 3)),
        gate=Gate(),
        a=conv(3, 8, 1),
        c=conv(8, 4, 1),
    )
