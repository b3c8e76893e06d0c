"""One thread for torch: on a busy machine, threads that wait for each other take many times as long."""

import torch

torch.set_num_threads(1)
