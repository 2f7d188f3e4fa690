"""Scenes of several emoji on a plain background, with the boxes, masks, classes and words of their objects."""

from sfumato.data.scenes.dataset import Scenes
from sfumato.data.scenes.scene import Scene, SceneObject

__all__ = ["Scene", "SceneObject", "Scenes"]
