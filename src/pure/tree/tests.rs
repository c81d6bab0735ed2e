//! Scenes of trees.
