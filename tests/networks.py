"""Small torch modules for tests, in a module of their own so that other processes find them."""

import multiprocessing
import os
import signal
from pathlib import Path

import torch
from torch import nn


class Blocks(nn.Module):
    """Two named stages at strides 2 and 4, and a head that works in place on the second."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stage1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.stage2 = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6))
            self.head = nn.Sequential(nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.unused = nn.Conv2d(1, 1, 1)
        self.n_images = 0

    def forward(self, x):
        self.n_images += len(x)
        return self.head(self.stage2(self.stage1(x)))


class LoggedBlocks(Blocks):
    """Writes a line to the file named in the environment for each image and each set-up."""

    def __init__(self):
        super().__init__()
        self._log("built")

    def forward(self, x):
        for _ in x:
            self._log("image")
        return super().forward(x)

    @staticmethod
    def _log(line):
        with Path(os.environ["BLOCKS_LOG"]).open("a") as file:
            file.write(line + "\n")


class DeadlyBlocks(LoggedBlocks):
    """Once, if the file named in the environment is there, a worker's process ends with it."""

    def forward(self, x):
        kill = Path(os.environ["BLOCKS_LOG"] + ".kill")
        if multiprocessing.parent_process() is not None and kill.exists():
            kill.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)
