"""The networks that people know by name."""
from fastnn.models.networks import BasicBlock, Bottleneck, cnn, lenet5, mlp, mobile, resnet20, resnet29, vgg

__all__ = ["cnn", "lenet5", "mlp", "mobile", "resnet20", "resnet29", "vgg"]
