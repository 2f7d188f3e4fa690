"""A simulated device without float64, like MPS: its tensors raise for float64 until they are moved to the CPU."""

import torch


class WithoutFloat64(torch.Tensor):
    """Reports the device MPS, and raises the error of MPS for float64."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func == torch.Tensor.device.__get__:
            return torch.device("mps")
        if func is torch.Tensor.double or any(each is torch.float64 for each in (*args, *kwargs.values())):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it.")
        if func is torch.Tensor.cpu or (func is torch.Tensor.to and "cpu" in map(str, args)):
            return args[0].as_subclass(torch.Tensor).to(**kwargs)
        return super().__torch_function__(func, types, args, kwargs)


def moved(x: torch.Tensor) -> torch.Tensor:
    """The same values on the simulated device."""
    return x.as_subclass(WithoutFloat64)
