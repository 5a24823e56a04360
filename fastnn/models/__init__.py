"""The networks that people know by name."""
from fastnn.models.networks import cnn, lenet5, mlp, mobile, resnet20, vgg

__all__ = ["cnn", "lenet5", "mlp", "mobile", "resnet20", "vgg"]
