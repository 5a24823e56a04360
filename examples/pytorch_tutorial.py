"""A PyTorch training script, start to end, on fastnn: only the import lines tell them apart.

It draws small grey images of four shapes, trains a convolutional network to tell them apart, saves and reloads it.
To run it on PyTorch, write `torch` for `fastnn` in the import lines. The starting weights and the images come from
NumPy, so both libraries print the same losses.
"""

import argparse
import os
import tempfile

import numpy as np

import fastnn as torch
import fastnn.nn as nn
import fastnn.nn.functional as F
from fastnn import optim
from fastnn.optim.lr_scheduler import StepLR
from fastnn.utils.data import DataLoader, Dataset

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

CLASSES = ["disk", "square", "cross", "bar"]


class Shapes(Dataset):
    """Noisy 16×16 images of one shape each, of any size, with the index of the shape's name in `CLASSES`."""

    def __init__(self, length, seed, transform=None):
        self.length = length
        self.transform = transform
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:16, :16]
        self.labels = rng.integers(0, len(CLASSES), length)
        self.images = rng.normal(0, 0.2, (length, 1, 16, 16)).astype(np.float32)
        for image, label in zip(self.images, self.labels, strict=True):
            dy, dx = np.abs(y - rng.integers(4, 12)), np.abs(x - rng.integers(4, 12))
            r = rng.uniform(2.5, 5)
            disk, square = dx**2 + dy**2 <= r**2, np.maximum(dx, dy) <= 0.8 * r
            cross, bar = (np.minimum(dx, dy) < 1) & (dx + dy <= 1.5 * r), dy <= 0.4 * r
            image[0][[disk, square, cross, bar][label]] += 1

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        image = torch.from_numpy(self.images[index])
        if self.transform:
            image = self.transform(image)
        return image, int(self.labels[index])


class Net(nn.Module):
    def __init__(self, num_classes=4):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=2, stride=2),
            nn.Conv2d(8, 16, kernel_size=3, padding=1),
            nn.ReLU(),
        )
        self.fc1 = nn.Linear(16 * 4 * 4, 32)
        self.fc2 = nn.Linear(32, num_classes)

    def forward(self, x):
        x = self.features(x)
        x = F.max_pool2d(x, 2)
        x = x.view(x.size(0), -1)
        x = F.relu(self.fc1(x))
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


def initialize(model):
    """Fixed starting weights, so that every run gives the same losses: He's uniform distribution, drawn by NumPy."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                bound = (6 / parameter[0].numel()) ** 0.5
                parameter.copy_(torch.from_numpy(rng.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32)))
        model.fc1.bias.fill_(0)
        nn.init.zeros_(model.fc2.bias)
        for module in model.features:
            if isinstance(module, nn.Conv2d):
                nn.init.constant_(module.bias, 0.01)


def train(model, loader, optimizer, epoch, log_interval=10):
    model.train()
    losses = []
    for batch_idx, (data, target) in enumerate(loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if batch_idx % log_interval == 0:
            seen, total = batch_idx * len(data), len(loader.dataset)
            print(f"Train Epoch: {epoch} [{seen}/{total} ({100.0 * seen / total:.0f}%)]\tLoss: {loss.item():.6f}")
    return losses


def test(model, loader):
    model.eval()
    test_loss = 0
    correct = 0
    with torch.no_grad():
        for data, target in loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    test_loss /= len(loader.dataset)
    total = len(loader.dataset)
    print(f"\nTest set: Average loss: {test_loss:.4f}, Accuracy: {correct}/{total} ({100 * correct / total:.1f}%)\n")
    return test_loss, correct / total


def main(arguments=None):
    parser = argparse.ArgumentParser(description="A PyTorch training script on fastnn")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--gamma", type=float, default=0.5)
    parser.add_argument("--train-size", type=int, default=2000)
    parser.add_argument("--save", default=os.path.join(tempfile.gettempdir(), "shapes_net.pt"))
    args = parser.parse_args(arguments)

    torch.manual_seed(1)

    def normalize(image):
        return (image - 0.2) / 0.5

    train_set = Shapes(args.train_size, seed=0, transform=normalize)
    test_set = Shapes(500, seed=1, transform=normalize)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=False)
    test_loader = DataLoader(test_set, batch_size=250)

    model = Net().to(device)
    initialize(model)
    print(f"{sum(p.numel() for p in model.parameters() if p.requires_grad)} parameters")
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
    scheduler = StepLR(optimizer, step_size=2, gamma=args.gamma)

    history = []
    for epoch in range(1, args.epochs + 1):
        history += train(model, train_loader, optimizer, epoch)
        history += test(model, test_loader)
        scheduler.step()
        print(f"learning rate {scheduler.get_last_lr()[0]:g}")

    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": args.epochs}, args.save)
    checkpoint = torch.load(args.save)
    loaded = Net().to(device)
    loaded.load_state_dict(checkpoint["model"])
    optimizer = optim.SGD(loaded.parameters(), lr=args.lr, momentum=0.9)
    optimizer.load_state_dict(checkpoint["optimizer"])
    history += test(loaded, test_loader)
    history += train(loaded, train_loader, optimizer, checkpoint["epoch"] + 1)
    return history


if __name__ == "__main__":
    main()
