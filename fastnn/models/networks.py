"""The networks that fastnn trains, times and compares, written as for PyTorch: with other imports the file runs there.

Every network is a function of the shape of one image, (C, H, W), and the number of classes; it returns a module that
maps images (N, C, H, W), float32, to class scores (N, num_classes), weights drawn afresh. The networks end in scores,
not probabilities: their loss is :func:`~fastnn.nn.functional.cross_entropy`.
"""

import fastnn.nn.functional as F
from fastnn import nn

Shape = tuple[int, int, int]


def mlp(image_shape: Shape = (1, 28, 28), num_classes: int = 10) -> nn.Module:
    """Two hidden layers of 256 and 128 ReLU units.

    >>> import fastnn
    >>> mlp((1, 8, 8))(fastnn.zeros(2, 1, 8, 8)).shape
    (2, 10)
    """
    c, h, w = image_shape
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(c * h * w, 256), nn.ReLU(),
        nn.Linear(256, 128), nn.ReLU(),
        nn.Linear(128, num_classes),
    )  # fmt: skip


def lenet5(image_shape: Shape = (1, 28, 28), num_classes: int = 10) -> nn.Module:
    """LeNet-5 with ReLU, max pooling and a padded first layer.

    Reference: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998.
    """
    c, h, w = image_shape
    return nn.Sequential(
        nn.Conv2d(c, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * _side("lenet5", h, 12, h // 2 - 4) * _side("lenet5", w, 12, w // 2 - 4), 120), nn.ReLU(),
        nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, num_classes),
    )  # fmt: skip


def cnn(image_shape: Shape = (1, 28, 28), num_classes: int = 10) -> nn.Module:
    """Two 3×3 convolutions of 32 and 64 filters, each with ReLU and max pooling, and a hidden layer of 128 units."""
    c, h, w = image_shape
    return nn.Sequential(
        nn.Conv2d(c, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * _side("cnn", h, 4, h // 2) * _side("cnn", w, 4, w // 2), 128), nn.ReLU(),
        nn.Linear(128, num_classes),
    )  # fmt: skip


def dropnet(image_shape: Shape = (1, 28, 28), num_classes: int = 10) -> nn.Module:
    """A small network of the other layers: ELU, tanh, sigmoid, average pooling and two kinds of dropout."""
    c, h, w = image_shape
    return nn.Sequential(
        nn.Conv2d(c, 32, 3, padding=1), nn.ELU(), nn.AvgPool2d(2), nn.Dropout2d(0.2),
        nn.Conv2d(32, 32, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(32 * _side("dropnet", h, 4, h // 2) * _side("dropnet", w, 4, w // 2), 256), nn.Sigmoid(),
        nn.Dropout(0.5),
        nn.Linear(256, num_classes),
    )  # fmt: skip


def vgg(image_shape: Shape = (3, 32, 32), num_classes: int = 10) -> nn.Module:
    """Three pairs of 3×3 convolutions of 32, 64 and 128 filters with batch norm and ReLU, max pooling after each pair.

    Reference: Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition",
    arXiv 1409.1556.
    """
    c, h, w = image_shape
    return nn.Sequential(
        cbr(c, 32), cbr(32, 32), nn.MaxPool2d(2),
        cbr(32, 64), cbr(64, 64), nn.MaxPool2d(2),
        cbr(64, 128), cbr(128, 128), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128 * _side("vgg", h, 8, h // 4) * _side("vgg", w, 8, w // 4), num_classes),
    )  # fmt: skip


class BasicBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)), the shortcut a 1×1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def resnet20(image_shape: Shape = (3, 32, 32), num_classes: int = 10) -> nn.Module:
    """The residual network of 20 layers for small images: three stages of three blocks, 16, 32 and 64 channels.

    Reference: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", arXiv 1512.03385, section 4.2.
    """
    return nn.Sequential(
        cbr(image_shape[0], 16),
        BasicBlock(16, 16), BasicBlock(16, 16), BasicBlock(16, 16),
        BasicBlock(16, 32, 2), BasicBlock(32, 32), BasicBlock(32, 32),
        BasicBlock(32, 64, 2), BasicBlock(64, 64), BasicBlock(64, 64),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, num_classes),
    )  # fmt: skip


def mobile(image_shape: Shape = (3, 32, 32), num_classes: int = 10) -> nn.Module:
    """Depthwise 3×3 and pointwise 1×1 convolutions in turn.

    Reference: Howard et al., "MobileNets", arXiv 1704.04861.
    """
    layers = [cbr(image_shape[0], 32)]
    channels = 32
    for out_channels, stride in (64, 1), (128, 2), (128, 1), (256, 2), (256, 1):
        layers += [cbr(channels, channels, 3, stride, channels), cbr(channels, out_channels, 1)]
        channels = out_channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


def cbr(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution without bias, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def _side(network: str, side: int, smallest: int, before: int) -> int:
    """Side of the map that the first linear layer sees: half of that before the last pooling."""
    if side < smallest:
        raise ValueError(f"{network}: images need sides of at least {smallest} pixels, got {side}")
    return before // 2
