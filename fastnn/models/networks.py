"""The networks that `fastnn train` knows, written as for PyTorch: with other imports the file runs there.

Each is a function of the shape of one image, (C, H, W), and the number of classes; it returns a module, weights drawn
afresh, that maps images (N, C, H, W), float32, to class scores (N, num_classes), for a loss of cross-entropy."""
from fastnn import nn

Shape = tuple[int, ...]


def mlp(image_shape: Shape = (1, 28, 28), num_classes: int = 10) -> nn.Module:
    """Two hidden layers of 256 and 128 ReLU units."""
    C, H, W = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(C * H * W, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
                         nn.Linear(128, num_classes))


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
