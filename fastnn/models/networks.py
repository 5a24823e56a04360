"""The networks that `fastnn train` knows, written as for PyTorch: with other imports the file runs there.

Each is a function of the shape of one image, (C, H, W), and the number of classes; it returns a module, weights drawn
afresh, that maps images (N, C, H, W), float32, to class scores (N, num_classes), for a loss of cross-entropy."""
import math

import fastnn.nn.functional as F
from fastnn import nn

Shape = tuple[int, ...]


def mlp(image_shape: Shape = (1, 28, 28), num_classes: int = 10) -> nn.Module:
    """Two hidden layers of 256 and 128 ReLU units, for samples of any shape."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), 256), nn.ReLU(),
                         nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, num_classes))


def lenet5(image_shape: Shape = (1, 28, 28), num_classes: int = 10) -> nn.Module:
    """LeNet-5 with ReLU and max pooling (LeCun, Bottou, Bengio, Haffner 1998); sides of 12 pixels and more."""
    C, H, W = image_shape
    return nn.Sequential(nn.Conv2d(C, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(16 * ((H // 2 - 4) // 2) * ((W // 2 - 4) // 2), 120), nn.ReLU(),
                         nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, num_classes))


def cnn(image_shape: Shape = (1, 28, 28), num_classes: int = 10) -> nn.Module:
    """Two 3×3 convolutions of 32 and 64 filters with ReLU and max pooling, then 128 ReLU units."""
    C, H, W = image_shape
    return nn.Sequential(nn.Conv2d(C, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(64 * (H // 4) * (W // 4), 128), nn.ReLU(), nn.Linear(128, num_classes))


def cbr(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


def vgg(image_shape: Shape = (3, 32, 32), num_classes: int = 10) -> nn.Module:
    """Three pairs of 3×3 convolutions of 32, 64, 128 filters, pooling after each pair (Simonyan, Zisserman 2014)."""
    C, H, W = image_shape
    return nn.Sequential(cbr(C, 32), cbr(32, 32), nn.MaxPool2d(2),
                         cbr(32, 64), cbr(64, 64), nn.MaxPool2d(2),
                         cbr(64, 128), cbr(128, 128), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(128 * (H // 8) * (W // 8), num_classes))


class BasicBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)), the shortcut a 1×1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1, _ = cbr(in_channels, out_channels, 3, stride)
        self.conv2, self.bn2, _ = cbr(out_channels, out_channels)
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = cbr(in_channels, out_channels, 1, stride)[:2] if changes else nn.Identity()  # without its ReLU

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """relu(y + shortcut(x)), y of a 1×1, a 3×3 and a 1×1 convolution, each with batch norm; the last widens four times
    (He, Zhang, Ren, Sun, arXiv 1512.03385, figure 5)."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1, _ = cbr(in_channels, channels, 1)
        self.conv2, self.bn2, _ = cbr(channels, channels, 3, stride)
        self.conv3, self.bn3, _ = cbr(channels, 4 * channels, 1)
        changes = stride != 1 or in_channels != 4 * channels
        self.shortcut = cbr(in_channels, 4 * channels, 1, stride)[:2] if changes else nn.Identity()

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


def resnet20(image_shape: Shape = (3, 32, 32), num_classes: int = 10) -> nn.Module:
    """The residual network of 20 layers for small images (He, Zhang, Ren, Sun, arXiv 1512.03385, section 4.2)."""
    return nn.Sequential(cbr(image_shape[0], 16),
                         BasicBlock(16, 16), BasicBlock(16, 16), BasicBlock(16, 16),
                         BasicBlock(16, 32, 2), BasicBlock(32, 32), BasicBlock(32, 32),
                         BasicBlock(32, 64, 2), BasicBlock(64, 64), BasicBlock(64, 64),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


def resnet29(image_shape: Shape = (3, 32, 32), num_classes: int = 10) -> nn.Module:
    """The same with nine bottlenecks of 16, 32 and 64 channels, whose outputs have 64, 128 and 256."""
    blocks = [Bottleneck(16, 16), Bottleneck(64, 16), Bottleneck(64, 16),
              Bottleneck(64, 32, 2), Bottleneck(128, 32), Bottleneck(128, 32),
              Bottleneck(128, 64, 2), Bottleneck(256, 64), Bottleneck(256, 64)]
    return nn.Sequential(cbr(image_shape[0], 16), *blocks,
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, num_classes))


def mobile(image_shape: Shape = (3, 32, 32), num_classes: int = 10) -> nn.Module:
    """Depthwise 3×3 and pointwise 1×1 convolutions in turn (MobileNets: Howard et al., arXiv 1704.04861)."""
    layers, channels = [cbr(image_shape[0], 32)], 32
    for out_channels, stride in (64, 1), (128, 2), (128, 1), (256, 2), (256, 1):
        layers += [cbr(channels, channels, 3, stride, channels), cbr(channels, out_channels, 1)]
        channels = out_channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
