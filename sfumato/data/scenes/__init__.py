"""Scenes of several objects, composed of the emoji corpus's cut-outs, with their boxes, masks, classes and words."""

from sfumato.data.scenes.dataset import Scenes
from sfumato.data.scenes.scene import Scene, SceneObject

__all__ = ["Scene", "SceneObject", "Scenes"]
