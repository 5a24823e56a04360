"""The networks that people know by name."""
from fastnn.models.networks import cnn, dropnet, lenet5, mlp, mobile, resnet20, vgg

__all__ = ["cnn", "dropnet", "lenet5", "mlp", "mobile", "resnet20", "vgg"]
