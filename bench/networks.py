"""A network of layers that those of `fastnn.models` lack, timed and compared with PyTorch's beside them.

It is a function of the shape of one image, (C, H, W), and the number of classes, written as for PyTorch: with other
imports the file runs there.
"""

from fastnn import nn

Shape = tuple[int, ...]


def dropnet(image_shape: Shape = (1, 28, 28), num_classes: int = 10) -> nn.Module:
    """A small network of the other layers: ELU, tanh, sigmoid, average pooling, two kinds of dropout."""
    C, H, W = image_shape
    return nn.Sequential(nn.Conv2d(C, 32, 3, padding=1), nn.ELU(), nn.AvgPool2d(2), nn.Dropout2d(0.2),
                         nn.Conv2d(32, 32, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
                         nn.Dropout(0.5), nn.Linear(32 * (H // 4) * (W // 4), 256), nn.Sigmoid(),
                         nn.Dropout(0.5), nn.Linear(256, num_classes))
